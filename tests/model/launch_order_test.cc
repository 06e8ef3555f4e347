#include "engine/model/launch_order.h"

#include "gtest/gtest.h"

namespace mambad {
namespace {

const SamplingRow kGreedy;

// A step of `slots` that consume these tokens and draw.
Batch Step(std::vector<int32_t> slots, std::vector<uint32_t> tokens) {
  Batch batch;
  for (uint32_t row = 0; row < slots.size(); ++row)
    batch.logits.push_back({LogitsSource::kDecodeRow, row, &kGreedy});
  batch.decode_slots = std::move(slots);
  batch.decode_tokens = std::move(tokens);
  return batch;
}

TEST(LaunchOrderTest, ARowConsumesWhatTheLaunchBeforeDrew) {
  LaunchOrder order;
  order.Follow(Step({3, 0, 9}, {5, 6, 7}));
  order.Follow(Step({9, 3}, {kDrawnToken, kDrawnToken}));
  order.Follow(Step({3, 0}, {kDrawnToken, 8}));
  order.Follow(Step({0, 3}, {kDrawnToken, kDrawnToken}));
}

TEST(LaunchOrderTest, TheFirstLaunchHasNothingDrawnBefore) {
  EXPECT_DEATH(LaunchOrder().Follow(Step({0}, {kDrawnToken})), "drawn_by");
}

TEST(LaunchOrderTest, ASlotThatTheLaunchBeforeLeftOutHasNothingDrawn) {
  LaunchOrder order;
  order.Follow(Step({3, 0}, {5, 6}));
  order.Follow(Step({0}, {kDrawnToken}));
  EXPECT_DEATH(order.Follow(Step({3}, {kDrawnToken})), "drawn_by");
}

TEST(LaunchOrderTest, ARowThatDrewNothingHasNoFollower) {
  LaunchOrder order;
  Batch closing = Step({3, 0}, {5, 6});
  closing.logits[1].sampling = nullptr;
  order.Follow(closing);
  EXPECT_DEATH(order.Follow(Step({0}, {kDrawnToken})), "drawn_by");
}

TEST(LaunchOrderTest, StopsAreCutByAscendingOffsets) {
  const auto follow = [](std::vector<uint32_t> stops, std::vector<uint32_t> offsets) {
    Batch batch = Step({3, 0}, {5, 6});
    batch.stops = std::move(stops);
    batch.stop_offsets = std::move(offsets);
    LaunchOrder().Follow(batch);
  };
  follow({}, {});
  follow({}, {0, 0, 0});
  follow({1, 2, 3}, {0, 0, 3});
  EXPECT_DEATH(follow({1}, {}), "stops");
  EXPECT_DEATH(follow({1}, {0, 1}), "offsets");
  EXPECT_DEATH(follow({1}, {0, 1, 1, 1}), "offsets");
  EXPECT_DEATH(follow({1, 2}, {1, 1, 2}), "offsets");
  EXPECT_DEATH(follow({1, 2}, {0, 1, 1}), "offsets");
  EXPECT_DEATH(follow({1, 2}, {0, 3, 2}), "offsets");
}

}  // namespace
}  // namespace mambad
