// The two halves of a draw; sampling_test.cc has what is drawn.
#include "kernels/sampling/sampler.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

class SamplerTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = Device::Create({.kind = TestsRunOnGpu() ? DeviceKind::kCuda : DeviceKind::kCpu, .threads = 2})
                  .value();
    stream_ = Stream::Create(*device_).value();
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
};

TEST_F(SamplerTest, TwoDrawsMayWaitToBeTaken) {
  constexpr std::int64_t kVocab = 900, kStride = 900, kRows = 2;
  TestVector<float> first(kRows * kStride), second(kRows * kStride);
  first[5] = first[kStride + 6] = second[7] = second[kStride + 8] = 9.0f;
  const std::vector<SamplingParams> params(kRows, {.temperature = 0});
  const std::vector<SamplingKey> keys(kRows);
  const auto sampler =
      Sampler::Create(*device_, {.vocab = kVocab, .stride = kStride, .rows_max = kRows}).value();
  for (int round = 0; round < 3; ++round) {
    for (const TestVector<float>* logits : {&first, &second}) {
      ASSERT_TRUE(
          sampler->Enqueue(*stream_, {.logits = logits->data(), .params = params, .keys = keys}).ok());
    }
    ASSERT_TRUE(stream_->Synchronize().ok());
    std::vector<SampledToken> results(kRows);
    sampler->Take(results);
    EXPECT_EQ(results[0].token, 5);
    EXPECT_EQ(results[1].token, 6);
    sampler->Take(results);
    EXPECT_EQ(results[0].token, 7);
    EXPECT_EQ(results[1].token, 8);
  }
}

// The penalties of a draw whose row's last token the host has not seen: the device finds it in the table.
TEST_F(SamplerTest, CountsATokenThatOnlyTheDeviceKnows) {
  constexpr std::int64_t kVocab = 300, kStride = 300, kRows = 3;
  TestVector<float> logits(kRows * kStride);
  TestVector<std::int32_t> drawn = {-5, 40, 41, 42};
  // Row r would draw 40 + r again, were it not for a presence penalty that makes 100 + r the largest.
  for (std::int64_t r = 0; r < kRows; ++r) {
    logits[r * kStride + 40 + r] = 3.0f;
    logits[r * kStride + 100 + r] = 2.0f;
  }
  const std::vector<SamplingParams> params(kRows, {.temperature = 0, .presence_penalty = 1.5f});
  const std::vector<SamplingKey> keys(kRows);
  // Row 1 lists its token already as one of the prompt; nobody counts that of row 2.
  const std::vector<TokenCount> counts = {{41, 0}};
  const std::vector<std::int64_t> offsets = {0, 0, 1, 1};
  const std::vector<std::int32_t> places = {1, 2, 3};
  const std::vector<std::uint8_t> unseen = {1, 1, 0};
  const auto sampler =
      Sampler::Create(*device_, {.vocab = kVocab, .stride = kStride, .rows_max = kRows}).value();
  const SampleArgs args = {
      .logits = logits.data(), .params = params, .keys = keys, .token_counts = {counts, offsets}};
  const absl::Status status =
      sampler->Enqueue(*stream_, args, {.tokens = drawn.data(), .places = places, .unseen = unseen});
  if (!TestsRunOnGpu()) {
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << "the CPU never runs ahead";
    return;
  }
  ASSERT_TRUE(status.ok()) << status;
  ASSERT_TRUE(stream_->Synchronize().ok());
  std::vector<SampledToken> results(kRows);
  sampler->Take(results);
  EXPECT_EQ(results[0].token, 100);
  EXPECT_EQ(results[1].token, 101);
  EXPECT_EQ(results[2].token, 42);
  EXPECT_EQ(drawn, (TestVector<std::int32_t>{-5, 100, 101, 42}));
}

}  // namespace
}  // namespace mambad::kernels
