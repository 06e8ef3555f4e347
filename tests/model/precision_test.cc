// What bf16 costs: mamba-tales in bf16 and in f32 over 20,000 tokens of its text.
#include <cmath>
#include <cstdio>
#include <cstring>
#include <memory>
#include <vector>

#include "engine/model/safetensors.h"
#include "gtest/gtest.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

// bf16 keeps 8 bits: a relative error of 2^-9 per weight and input, which over a few hundred terms and 8
// layers leaves about 0.01 on logits of size 10. Twice that is allowed on a log-probability, and half a
// percent on their sum.
constexpr double kMeanLogprobDifference = 0.02;
constexpr double kBitsPerByteRatio = 0.005;
constexpr size_t kTokens = 20'000;

struct Text {
  std::vector<uint16_t> ids;
  int64_t bytes = 0;
};

Text ReadText() {
  const auto file = SafetensorsFile::Open(TestDataPath("golden/tales-tokens.safetensors"));
  Text text;
  if (!file.ok()) {
    ADD_FAILURE() << file.status();
    return text;
  }
  const auto ids = (*file)->Bytes(*(*file)->Find("input_ids"));
  text.ids.resize(ids.size() / sizeof(uint16_t));
  std::memcpy(text.ids.data(), ids.data(), ids.size());
  std::memcpy(&text.bytes, (*file)->Bytes(*(*file)->Find("text_bytes")).data(), sizeof(text.bytes));
  return text;
}

// log p(token i + 1 | tokens up to i) for every i but the last.
std::vector<float> Logprobs(const std::vector<uint16_t>& ids, Precision precision) {
  const auto model = LoadTestModel(TalesFolder(), precision);
  SlotPool pool(model->state_layout(), 1);
  const size_t chunk = model->limits().prompt_tokens;
  std::vector<float> logprobs;
  std::vector<LogitsResult> results;
  for (size_t begin = 0; begin + 1 < ids.size(); begin += chunk) {
    const size_t count = std::min(chunk, ids.size() - 1 - begin);
    Batch batch;
    batch.chunk_slots = {0};
    batch.chunk_offsets = {0, static_cast<uint32_t>(count)};
    batch.prompt_tokens.assign(ids.begin() + begin, ids.begin() + begin + count);
    for (uint32_t i = 0; i < count; ++i) {
      LogitsTask task = {LogitsSource::kPromptToken, i};
      task.target = ids[begin + i + 1];
      batch.logits.push_back(task);
    }
    const absl::Status status = model->Forward(batch, pool.view(), &results);
    EXPECT_TRUE(status.ok()) << status;
    for (const LogitsResult& result : results) logprobs.push_back(result.target_logprob);
  }
  return logprobs;
}

TEST(PrecisionTest, Bf16IsCloseToF32OnTheTales) {
  const Text text = ReadText();
  ASSERT_EQ(text.ids.size(), kTokens);
  const std::vector<float> f32 = Logprobs(text.ids, Precision::kF32);
  const std::vector<float> bf16 = Logprobs(text.ids, Precision::kBf16);
  ASSERT_EQ(f32.size(), kTokens - 1);
  ASSERT_EQ(bf16.size(), kTokens - 1);
  double difference = 0;
  double nats_f32 = 0;
  double nats_bf16 = 0;
  for (size_t i = 0; i < f32.size(); ++i) {
    difference += std::fabs(f32[i] - bf16[i]);
    nats_f32 -= f32[i];
    nats_bf16 -= bf16[i];
  }
  difference /= static_cast<double>(f32.size());
  const double bits_per_byte = nats_f32 / std::log(2.0) / static_cast<double>(text.bytes);
  std::printf("[ BF16     ] mean |logprob difference| %.5f, bits per byte %.4f in f32, %+.3f%% in bf16\n",
              difference, bits_per_byte, 100 * (nats_bf16 / nats_f32 - 1));
  EXPECT_LT(bits_per_byte, 2.0);  // a model that knows the text
  EXPECT_GT(difference, 0.0);     // two precisions indeed
  EXPECT_LE(difference, kMeanLogprobDifference);
  EXPECT_LE(std::fabs(nats_bf16 / nats_f32 - 1), kBitsPerByteRatio);
}

}  // namespace
}  // namespace mambad
