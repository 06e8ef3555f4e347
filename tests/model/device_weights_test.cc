// Random weights that a GPU makes itself are those that the host makes: the logits of a prompt have the same
// bits.
#include <algorithm>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/cut_shape.h"
#include "tests/model/slot_pool.h"

namespace mambad {
namespace {

constexpr uint32_t kTokens = 200;

// Makes everything on the host.
class HostMade : public WeightSource {
 public:
  explicit HostMade(WeightSource& source) : source_(source) {}

  absl::Status Check(const TensorSpec& spec) const override { return source_.Check(spec); }
  absl::StatusOr<HostTensor> Load(const TensorSpec& spec) override { return source_.Load(spec); }
  bool is_16_bit() const override { return source_.is_16_bit(); }
  std::string digest() const override { return source_.digest(); }

 private:
  WeightSource& source_;
};

std::vector<float> LogitsOf(MixerModel& model) {
  Batch batch = {.chunk_slots = {0}, .chunk_offsets = {0, kTokens}, .prompt_tokens = {}};
  for (uint32_t i = 0; i < kTokens; ++i) {
    batch.prompt_tokens.push_back(5 * i % CutShape::kVocab);
    batch.logits.push_back({LogitsSource::kPromptToken, i});
  }
  std::vector<float> logits(kTokens * CutShape::kVocab);
  model.ObserveLogits([&](size_t task, std::span<const float> row) {
    std::ranges::copy(row, logits.begin() + static_cast<ptrdiff_t>(task * CutShape::kVocab));
  });
  SlotPool pool(model.state_layout(), 1);
  std::vector<LogitsResult> results;
  const absl::Status status = model.Forward(batch, pool.view(), &results);
  EXPECT_TRUE(status.ok()) << status;
  for (const LogitsResult& result : results) EXPECT_TRUE(result.finite);
  return logits;
}

class DeviceWeightsTest : public testing::TestWithParam<CutShape> {};

TEST_P(DeviceWeightsTest, AreThoseOfTheHost) {
  const ForwardLimits limits = {.decode_rows = 1, .prompt_tokens = kTokens};
  const auto on_device = MakeCutModel(GetParam(), limits);
  const auto on_host =
      MakeCutModel(GetParam(), limits, [](RandomWeights& random) { return HostMade(random); });
  const std::vector<float> got = LogitsOf(*on_device), want = LogitsOf(*on_host);
  EXPECT_EQ(std::memcmp(got.data(), want.data(), want.size() * sizeof(float)), 0);
  EXPECT_NE(want[0], want[CutShape::kVocab]);
}

// Tied and not, fused and general.
INSTANTIATE_TEST_SUITE_P(, DeviceWeightsTest,
                         testing::Values(CutShape{"mamba-130m", 2}, CutShape{"falcon-mamba-7b", 1},
                                         CutShape{"mamba-130m", 1, kernels::WeightPrecision::kF32}),
                         [](const auto& info) { return "case" + std::to_string(info.index); });

}  // namespace
}  // namespace mambad
