#include "engine/session/state_pool.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "tests/support/oracle_model.h"

namespace mambad {
namespace {

constexpr std::byte kZero{0};
constexpr std::byte kPoison{0xff};

class StatePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<StatePool>> pool =
        StatePool::Create(model_.device(), model_.state_layout(), 4, /*poison=*/true);
    ASSERT_TRUE(pool.ok());
    pool_ = *std::move(pool);
  }

  std::byte* BytesOf(const StateSlot& slot) {
    return pool_->view().base + slot.index() * pool_->view().stride;
  }
  bool AllAre(const StateSlot& slot, std::byte value) {
    const std::vector<std::byte> bytes = *pool_->Read(slot);
    return std::all_of(bytes.begin(), bytes.end(), [&](std::byte each) { return each == value; });
  }
  void Fill(const StateSlot& slot, int value) {
    std::memset(BytesOf(slot), value, model_.state_layout().bytes);
  }

  OracleModel model_;
  std::unique_ptr<StatePool> pool_;
};

TEST_F(StatePoolTest, ReturnsTheSlotWhenItsOwnerDies) {
  {
    const StateSlot slot = *pool_->Allocate();
    EXPECT_EQ(pool_->used(), 1u);
  }
  EXPECT_EQ(pool_->used(), 0u);
}

TEST_F(StatePoolTest, MovesTheRightAndNotTheState) {
  StateSlot a = *pool_->Allocate();
  const int32_t index = a.index();
  StateSlot b = std::move(a);
  EXPECT_FALSE(a.held());
  EXPECT_EQ(b.index(), index);
  StateSlot c = *pool_->Allocate();
  c = std::move(b);
  EXPECT_EQ(c.index(), index);
  EXPECT_EQ(pool_->used(), 1u);
}

TEST_F(StatePoolTest, HandsOutDistinctZeroedSlots) {
  std::vector<StateSlot> slots;
  for (int round = 0; round < 3; ++round) {
    std::set<int32_t> indices;
    for (int i = 0; i < 4; ++i) {
      slots.push_back(*pool_->Allocate());
      EXPECT_TRUE(AllAre(slots.back(), kZero));
      Fill(slots.back(), 0x55);
      indices.insert(slots.back().index());
    }
    EXPECT_EQ(indices.size(), 4u);
    EXPECT_EQ(pool_->free(), 0u);
    slots.clear();
  }
}

TEST_F(StatePoolTest, FillsReleasedSlotsWithNaN) {
  StateSlot slot = *pool_->Allocate();
  std::byte* const bytes = BytesOf(slot);
  slot = StateSlot();
  EXPECT_TRUE(std::all_of(bytes, bytes + model_.state_layout().bytes,
                          [](std::byte each) { return each == kPoison; }));
}

TEST_F(StatePoolTest, CopiesAndZeroesOneSlotAndNoOther) {
  std::vector<StateSlot> slots;
  for (int i = 0; i < 3; ++i) {
    slots.push_back(*pool_->Allocate());
    Fill(slots.back(), i + 1);
  }
  slots.push_back(*pool_->AllocateCopy(slots[0]));
  EXPECT_TRUE(AllAre(slots[3], std::byte{1}));
  ASSERT_TRUE(pool_->Copy(slots[1], slots[0]).ok());
  ASSERT_TRUE(pool_->Zero(slots[1]).ok());
  EXPECT_TRUE(AllAre(slots[0], std::byte{2}));
  EXPECT_TRUE(AllAre(slots[1], kZero));
  EXPECT_TRUE(AllAre(slots[2], std::byte{3}));
  EXPECT_TRUE(AllAre(slots[3], std::byte{1}));
}

TEST_F(StatePoolTest, StandsInTheDevicesLedgerUnderItsName) {
  uint64_t bytes = 0;
  for (const kernels::MemoryUse& use : model_.device().Ledger()) {
    if (use.user == StatePool::kLedgerName) bytes = use.bytes;
  }
  EXPECT_EQ(bytes, 4 * model_.state_layout().stride);
  EXPECT_EQ(pool_->bytes(), bytes);
}

TEST_F(StatePoolTest, RefusesWhatTheDeviceCannotHold) {
  absl::StatusOr<std::unique_ptr<kernels::Device>> device =
      kernels::Device::Create({.threads = 1, .memory_limit_bytes = 8 << 20});
  ASSERT_TRUE(device.ok());
  StateLayout layout = model_.state_layout();
  layout.stride = layout.bytes = 1 << 20;
  EXPECT_TRUE(absl::IsResourceExhausted(StatePool::Create(**device, layout, 100, false).status()));
  EXPECT_EQ((*device)->bytes_in_use(), 0u);
}

TEST_F(StatePoolTest, CountsTheSlotsThatFit) {
  StateLayout layout;
  layout.stride = 100;
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 99), 0u);
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 100), 1u);
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 350), 3u);
  EXPECT_EQ(StatePool::SlotsThatFit(layout, UINT64_MAX), StatePool::kSlotsMax);
}

TEST_F(StatePoolTest, HasWideSlotsForANarrowState) {
  EXPECT_EQ(pool_->wide().slots(), 0u);
  OracleModel narrow({}, OracleModel::Ahead::kNo, /*narrow=*/true);
  const auto pool = *StatePool::Create(narrow.device(), narrow.state_layout(), 64, /*poison=*/true);
  EXPECT_EQ(pool->view().wide_slots, 4);
  std::set<int32_t> indices;
  {
    std::vector<WideSlot> wide;
    for (int i = 0; i < 4; ++i) indices.insert(wide.emplace_back(pool->wide().Take()).index());
    EXPECT_EQ(pool->wide().free(), 0u);
  }
  EXPECT_EQ(indices, (std::set<int32_t>{0, 1, 2, 3}));
  EXPECT_EQ(pool->wide().free(), 4u);
  uint64_t bytes = 0;
  for (const kernels::MemoryUse& use : narrow.device().Ledger()) {
    if (use.user == WidePool::kLedgerName) bytes = use.bytes;
  }
  EXPECT_EQ(bytes, 4 * narrow.state_layout().wide_stride);
}

TEST_F(StatePoolTest, CountsWideSlotsAmongWhatFits) {
  StateLayout layout;
  layout.stride = 100;
  layout.wide_stride = 200;
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 299), 0u);
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 300), 1u);
  EXPECT_EQ(StatePool::SlotsThatFit(layout, 10'000), 90u);  // and five wide ones
}

using StatePoolDeathTest = StatePoolTest;

TEST_F(StatePoolDeathTest, ASlotThatOutlivesItsPoolIsABrokenPromise) {
  EXPECT_DEATH(
      {
        const StateSlot slot = *pool_->Allocate();
        pool_.reset();
      },
      "broken promise");
}

}  // namespace
}  // namespace mambad
