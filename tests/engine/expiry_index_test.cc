#include "engine/session/expiry_index.h"

#include <gtest/gtest.h>

namespace mambad {
namespace {

absl::Time At(int seconds) { return absl::UnixEpoch() + absl::Seconds(seconds); }

TEST(ExpiryIndexTest, GivesKeysInOrderOfTheirTime) {
  ExpiryIndex<int> index;
  index.Set(1, At(30));
  index.Set(2, At(10));
  index.Set(3, At(20));
  EXPECT_EQ(index.Earliest(), At(10));
  EXPECT_EQ(index.PopDue(At(9)), std::nullopt);
  EXPECT_EQ(index.PopDue(At(25)), 2);
  EXPECT_EQ(index.PopDue(At(25)), 3);
  EXPECT_EQ(index.PopDue(At(25)), std::nullopt);
  EXPECT_EQ(index.Earliest(), At(30));
}

TEST(ExpiryIndexTest, KeepsOneTimeAKey) {
  ExpiryIndex<int> index;
  index.Set(1, At(10));
  index.Set(1, At(20));
  EXPECT_EQ(index.PopDue(At(15)), std::nullopt);
  EXPECT_EQ(index.PopDue(At(20)), 1);
  EXPECT_EQ(index.Earliest(), absl::InfiniteFuture());
}

TEST(ExpiryIndexTest, NeverMeansNotKept) {
  ExpiryIndex<int> index;
  index.Set(1, At(10));
  index.Set(1, absl::InfiniteFuture());
  EXPECT_EQ(index.PopDue(absl::InfiniteFuture()), std::nullopt);
  index.Erase(1);
}

TEST(ExpiryIndexTest, GivesAllOfOneTime) {
  ExpiryIndex<int> index;
  for (const int key : {3, 1, 2}) index.Set(key, At(5));
  index.Erase(2);
  EXPECT_EQ(index.PopDue(At(5)), 1);
  EXPECT_EQ(index.PopDue(At(5)), 3);
  EXPECT_EQ(index.PopDue(At(5)), std::nullopt);
}

}  // namespace
}  // namespace mambad
