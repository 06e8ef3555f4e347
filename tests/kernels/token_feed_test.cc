#include "kernels/token_feed/token_feed.h"

#include <cstdint>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/slots.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

constexpr std::uint32_t kPoison = 12345;

class TokenFeedTest : public ::testing::Test {
 protected:
  void SetUp() override {
    device_ = Device::Create({.kind = TestsRunOnGpu() ? DeviceKind::kCuda : DeviceKind::kCpu, .threads = 1})
                  .value();
    stream_ = Stream::Create(*device_).value();
  }

  // Rows of one slot each; the first slot drew 70, the next one 71, ...
  void Feed(TestVector<std::uint32_t> tokens, TestVector<std::int32_t> slots,
            const std::vector<std::vector<std::uint32_t>>& stops) {
    TestVector<std::int32_t> drawn(8), offsets = {0};
    for (std::int32_t slot = 0; slot < 8; ++slot) drawn[slot] = 70 + slot;
    TestVector<std::uint32_t> all_stops;
    for (const auto& row : stops) {
      all_stops.insert(all_stops.end(), row.begin(), row.end());
      offsets.push_back(static_cast<std::int32_t>(all_stops.size()));
    }
    all_stops.push_back(0);  // never empty
    row_tokens_.assign(tokens.size() + 1, kPoison);
    row_slots_.assign(tokens.size() + 1, static_cast<std::int32_t>(kPoison));
    ASSERT_TRUE(FeedTokens(*stream_, {.tokens = tokens.data(),
                                      .slots = slots.data(),
                                      .stop_offsets = offsets.data(),
                                      .stops = all_stops.data(),
                                      .drawn = drawn.data(),
                                      .row_tokens = row_tokens_.data(),
                                      .row_slots = row_slots_.data(),
                                      .rows = static_cast<std::int64_t>(tokens.size())})
                    .ok());
    ASSERT_TRUE(stream_->Synchronize().ok());
    EXPECT_EQ(row_tokens_.back(), kPoison);
    EXPECT_EQ(row_slots_.back(), static_cast<std::int32_t>(kPoison));
    row_tokens_.pop_back();
    row_slots_.pop_back();
  }

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  TestVector<std::uint32_t> row_tokens_;
  TestVector<std::int32_t> row_slots_;
};

TEST_F(TokenFeedTest, TakesTheDrawnTokenWhereTheHostHasNone) {
  Feed({5, kDrawnToken, 0, kDrawnToken}, {3, 6, kNoSlot, 0}, {{}, {}, {}, {}});
  EXPECT_EQ(row_tokens_, (TestVector<std::uint32_t>{5, 76, 0, 70}));
  EXPECT_EQ(row_slots_, (TestVector<std::int32_t>{3, 6, kNoSlot, 0}));
}

TEST_F(TokenFeedTest, RetiresARowWhoseDrawnTokenIsAStop) {
  Feed({kDrawnToken, kDrawnToken, kDrawnToken, 72}, {2, 3, 4, 5}, {{9, 72}, {72, 74}, {74, 1, 2}, {72}});
  EXPECT_EQ(row_tokens_, (TestVector<std::uint32_t>{0, 73, 0, 72}));
  EXPECT_EQ(row_slots_, (TestVector<std::int32_t>{kNoSlot, 3, kNoSlot, 5}))
      << "the stops of one row are not another's, and a token that the host knows is no news";
}

TEST_F(TokenFeedTest, TakesMoreRowsThanABlockHasThreads) {
  TestVector<std::uint32_t> tokens(300);
  TestVector<std::int32_t> slots(300, kNoSlot);
  for (std::uint32_t i = 0; i < 300; ++i) tokens[i] = i;
  tokens[299] = kDrawnToken, slots[299] = 7;
  Feed(tokens, slots, std::vector<std::vector<std::uint32_t>>(300));
  EXPECT_EQ(row_tokens_[299], 77u);
  EXPECT_EQ(row_slots_[299], 7);
  EXPECT_EQ(row_tokens_[298], 298u);
}

TEST_F(TokenFeedTest, RefusesWhatMakesNoSense) {
  EXPECT_EQ(FeedTokens(*stream_, {.rows = -1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(FeedTokens(*stream_, {.rows = 1}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(FeedTokens(*stream_, {}).ok());
}

}  // namespace
}  // namespace mambad::kernels
