// The whole model in fp32 against Hugging Face transformers: logits of every prompt position, the state after
// the prompt, and a greedy continuation.
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/model/safetensors.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

// DESIGN section 5: fp32 sums of at most a few thousand terms in another order than PyTorch's.
constexpr double kLogitTolerance = 2e-3;
constexpr double kStateTolerance = 1e-3;  // of the largest element of the layer's tensor

struct Golden {
  std::string name;    // of the file
  std::string folder;  // of the model
};

void PrintTo(const Golden& golden, std::ostream* out) { *out << golden.name; }

std::vector<Golden> Goldens() {
  std::vector<Golden> goldens = {
      {TestDataPath("golden/tales-0.safetensors"), TalesFolder()},
      {TestDataPath("golden/tales-1.safetensors"), TalesFolder()},
      {TestDataPath("golden/tiny-mamba.safetensors"), TestDataPath("models/tiny-mamba")},
      {TestDataPath("golden/tiny-falcon-mamba.safetensors"), TestDataPath("models/tiny-falcon-mamba")},
  };
  // Those of make_model_golden.py: the model's folder beside its golden file.
  std::error_code none;
  for (const auto& entry : std::filesystem::directory_iterator(TestDataPath("golden/models"), none)) {
    if (entry.is_directory()) goldens.push_back({entry.path() / "golden.safetensors", entry.path()});
  }
  return goldens;
}

template <class T>
std::vector<T> ReadTensor(const SafetensorsFile& file, const std::string& name, std::vector<int64_t>* shape) {
  const TensorEntry* entry = file.Find(name);
  if (entry == nullptr) {
    ADD_FAILURE() << file.path() << " has no " << name;
    std::abort();
  }
  *shape = entry->shape;
  std::vector<T> values(entry->bytes / sizeof(T));
  std::memcpy(values.data(), file.Bytes(*entry).data(), entry->bytes);
  return values;
}

// One sequence fed in prompt chunks of at most `chunk` tokens.
std::vector<std::vector<float>> Prefill(MixerModel& model, SlotPool& pool, std::span<const int32_t> ids,
                                        size_t chunk) {
  std::vector<std::vector<float>> logits;
  for (size_t begin = 0; begin < ids.size(); begin += chunk) {
    const size_t count = std::min(chunk, ids.size() - begin);
    Batch batch;
    batch.chunk_slots = {0};
    batch.chunk_offsets = {0, static_cast<uint32_t>(count)};
    batch.prompt_tokens.assign(ids.begin() + begin, ids.begin() + begin + count);
    for (uint32_t i = 0; i < count; ++i) batch.logits.push_back({LogitsSource::kPromptToken, i});
    const size_t base = logits.size();
    logits.resize(base + count);
    model.ObserveLogits(
        [&](size_t task, std::span<const float> row) { logits[base + task].assign(row.begin(), row.end()); });
    std::vector<LogitsResult> results;
    const absl::Status status = model.Forward(batch, pool.view(), &results);
    EXPECT_TRUE(status.ok()) << status;
  }
  model.ObserveLogits(nullptr);
  return logits;
}

class GoldenTest : public testing::TestWithParam<Golden> {
 protected:
  void SetUp() override {
    absl::StatusOr<std::shared_ptr<const SafetensorsFile>> file = SafetensorsFile::Open(GetParam().name);
    ASSERT_TRUE(file.ok()) << file.status();
    file_ = *file;
    model_ = LoadTestModel(GetParam().folder, Precision::kF32);
    input_ids_ = ReadTensor<int32_t>(*file_, "input_ids", &shape_);
  }

  std::span<const int32_t> Prompt(int64_t sequence) const {
    return {input_ids_.data() + sequence * shape_[1], static_cast<size_t>(shape_[1])};
  }
  int64_t sequences() const { return shape_[0]; }

  std::shared_ptr<const SafetensorsFile> file_;
  std::shared_ptr<MixerModel> model_;
  std::vector<int32_t> input_ids_;
  std::vector<int64_t> shape_;
};

TEST_P(GoldenTest, LogitsAgreeAtEveryPosition) {
  std::vector<int64_t> shape;
  const auto expected = ReadTensor<float>(*file_, "logits", &shape);
  // Of a long prompt the last positions alone are kept.
  const int64_t kept = shape[1];
  const int64_t vocab = shape[2];
  double worst = 0;
  for (int64_t s = 0; s < sequences(); ++s) {
    SlotPool pool(model_->state_layout(), 1);
    const auto logits = Prefill(*model_, pool, Prompt(s), model_->limits().prompt_tokens);
    ASSERT_EQ(logits.size(), static_cast<size_t>(shape_[1]));
    for (int64_t t = 0; t < kept; ++t) {
      const std::vector<float>& row = logits[logits.size() - kept + t];
      ASSERT_EQ(row.size(), static_cast<size_t>(vocab));
      for (int64_t v = 0; v < vocab; ++v)
        worst = std::max(worst, std::fabs(double{row[v]} - expected[(s * kept + t) * vocab + v]));
    }
  }
  RecordProperty("worst", std::to_string(worst));
  EXPECT_LE(worst, kLogitTolerance);
}

TEST_P(GoldenTest, StatesAgreeAfterThePrompt) {
  for (const StateTensor& tensor : model_->state_layout().tensors) {
    const bool conv = tensor.spec.name == "conv_state";
    std::vector<int64_t> shape;  // (L, sequences, D, K or N)
    const auto expected = ReadTensor<float>(*file_, conv ? "conv_states" : "ssm_states", &shape);
    const int64_t rows = tensor.spec.shape[0];
    const int64_t cols = tensor.spec.shape[1];
    // Hugging Face keeps the last K inputs; the oldest of them is no state.
    const int64_t skip = shape[3] - cols;
    ASSERT_EQ(skip, conv ? 1 : 0);
    for (int64_t s = 0; s < sequences(); ++s) {
      SlotPool pool(model_->state_layout(), 1);
      Prefill(*model_, pool, Prompt(s), model_->limits().prompt_tokens);
      std::vector<float> state(tensor.n_layer * rows * cols);
      ReadCanonical(tensor, pool.slot(0).data(), state.data());
      for (int64_t layer = 0; layer < tensor.n_layer; ++layer) {
        double largest = 0;
        double worst = 0;
        for (int64_t i = 0; i < rows * cols; ++i) {
          const int64_t from = ((layer * sequences() + s) * rows + i / cols) * shape[3] + skip + i % cols;
          largest = std::max(largest, std::fabs(double{expected[from]}));
          worst = std::max(worst, std::fabs(double{state[layer * rows * cols + i]} - expected[from]));
        }
        EXPECT_LE(worst, kStateTolerance * largest) << tensor.spec.name << " of layer " << layer;
      }
    }
  }
}

TEST_P(GoldenTest, GreedyTokensAreEqual) {
  std::vector<int64_t> shape;
  const auto expected = ReadTensor<int32_t>(*file_, "greedy", &shape);
  SamplingRow greedy;
  greedy.params.temperature = 0;
  for (int64_t s = 0; s < sequences(); ++s) {
    SlotPool pool(model_->state_layout(), 1);
    Prefill(*model_, pool, Prompt(s), model_->limits().prompt_tokens);
    Batch batch;
    batch.logits = {{LogitsSource::kSlot, 0, &greedy}};
    std::vector<LogitsResult> results;
    std::vector<int32_t> tokens;
    for (int64_t i = 0; i < shape[1]; ++i) {
      ASSERT_TRUE(model_->Forward(batch, pool.view(), &results).ok());
      ASSERT_TRUE(results[0].finite);
      tokens.push_back(static_cast<int32_t>(results[0].token));
      batch.decode_slots = {0};
      batch.decode_tokens = {results[0].token};
      batch.logits = {{LogitsSource::kDecodeRow, 0, &greedy}};
    }
    EXPECT_THAT(tokens, testing::ElementsAreArray(expected.begin() + s * shape[1],
                                                  expected.begin() + (s + 1) * shape[1]));
  }
}

INSTANTIATE_TEST_SUITE_P(Files, GoldenTest, testing::ValuesIn(Goldens()),
                         [](const testing::TestParamInfo<Golden>& info) {
                           std::string name =
                               info.param.folder == TalesFolder() || info.index < 4
                                   ? std::filesystem::path(info.param.name).stem().string()
                                   : std::filesystem::path(info.param.folder).filename().string();
                           std::replace(name.begin(), name.end(), '-', '_');
                           return name;
                         });

}  // namespace
}  // namespace mambad
