#include "engine/model/step_feed.h"

#include <vector>

#include "engine/model/state_layout.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/slots.h"

namespace mambad {
namespace {

using testing::ElementsAreArray;

constexpr int32_t kRows = 8;
constexpr auto kLastSlot = static_cast<int32_t>(kStateSlotsMax) - 1;

class StepFeedTest : public testing::Test {
 protected:
  StepFeedTest()
      : device_(kernels::Device::Create({.threads = 1}).value()),
        stream_(kernels::Stream::Create(*device_).value()),
        feed_(StepFeed::Create(*device_, kRows, /*stops_per_row=*/2).value()) {}

  std::unique_ptr<kernels::Device> device_;
  std::unique_ptr<kernels::Stream> stream_;
  StepFeed feed_;
};

TEST_F(StepFeedTest, HasAllItsBytesFromTheStart) {
  uint64_t workspace = 0;
  for (const kernels::MemoryUse& use : device_->Ledger()) {
    if (use.user == "workspace") workspace += use.bytes;
  }
  EXPECT_EQ(feed_.bytes(), workspace);
  EXPECT_GE(feed_.bytes(), kStateSlotsMax * sizeof(int32_t));
}

TEST_F(StepFeedTest, FeedsWhatWasDrawnForAnySlotAndRetiresARowAtItsStop) {
  feed_.drawn()[kLastSlot] = 40;
  feed_.drawn()[2] = 41;
  const Batch batch = {.decode_slots = {5, kLastSlot, 2},
                       .decode_tokens = {7, kDrawnToken, kDrawnToken},
                       .stops = {9, 41},
                       .stop_offsets = {0, 0, 1, 2}};
  ASSERT_TRUE(feed_.Enqueue(*stream_, batch, /*bucket=*/4).ok());
  ASSERT_TRUE(stream_->Synchronize().ok());
  EXPECT_THAT(std::vector<uint32_t>(feed_.tokens(), feed_.tokens() + 4),
              ElementsAreArray<uint32_t>({7, 40, 0, 0}));
  EXPECT_THAT(std::vector<int32_t>(feed_.slots(), feed_.slots() + 4),
              ElementsAreArray({5, kLastSlot, kernels::kNoSlot, kernels::kNoSlot}));
}

}  // namespace
}  // namespace mambad
