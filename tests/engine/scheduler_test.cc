#include "engine/schedule/scheduler.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

namespace mambad {
namespace {

using Tickets = std::vector<RequestTicket>;

constexpr uint32_t kAll = 1000;

TEST(SchedulerTest, AdmitsByPriorityThenArrival) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .priority = 0, .slots = 1});
  scheduler.Enqueue({.ticket = 2, .priority = 5, .slots = 1});
  scheduler.Enqueue({.ticket = 3, .priority = 5, .slots = 1});
  scheduler.Enqueue({.ticket = 4, .priority = -1, .slots = 1});
  EXPECT_EQ(scheduler.Admit(3, kAll).admitted, (Tickets{2, 3, 1}));
  EXPECT_EQ(scheduler.Admit(3, kAll).admitted, (Tickets{4}));
}

TEST(SchedulerTest, OrdersTheExtremePriorities) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .priority = INT32_MIN, .slots = 1});
  scheduler.Enqueue({.ticket = 2, .priority = INT32_MAX, .slots = 1});
  EXPECT_EQ(scheduler.Admit(2, kAll).admitted, (Tickets{2, 1}));
}

TEST(SchedulerTest, AdmitsOnlyWithAllSlotsAtOnce) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .slots = 4});
  EXPECT_TRUE(scheduler.Admit(3, kAll).admitted.empty());
  EXPECT_EQ(scheduler.waiting_slots(), 4u);
  EXPECT_EQ(scheduler.Admit(4, kAll).admitted, Tickets{1});
  EXPECT_EQ(scheduler.waiting_slots(), 0u);
}

TEST(SchedulerTest, ARequestWithoutSlotsAlwaysStarts) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .slots = 4});
  scheduler.Enqueue({.ticket = 2, .slots = 0});
  EXPECT_EQ(scheduler.Admit(0, kAll).admitted, Tickets{2});
}

TEST(SchedulerTest, SmallRequestsMayPassALargeOneOnlySoOften) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .slots = 4});
  RequestTicket next = 2;
  uint32_t passed = 0;
  for (int tick = 0; tick < 1000; ++tick, ++next) {
    scheduler.Enqueue({.ticket = next, .slots = 1});
    passed += static_cast<uint32_t>(scheduler.Admit(3, kAll).admitted.size());
  }
  EXPECT_EQ(passed, Scheduler::kOvertakesMax);
  EXPECT_FALSE(scheduler.TakeSlotForSession(3));
  EXPECT_EQ(scheduler.Admit(4, kAll).admitted, Tickets{1});
  EXPECT_TRUE(scheduler.TakeSlotForSession(3));
}

TEST(SchedulerTest, SessionsCountAsOvertaking) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .slots = 4});
  for (uint32_t i = 0; i < Scheduler::kOvertakesMax; ++i) EXPECT_TRUE(scheduler.TakeSlotForSession(1));
  EXPECT_FALSE(scheduler.TakeSlotForSession(1));
  scheduler.Remove({.ticket = 1, .slots = 4});
  EXPECT_TRUE(scheduler.TakeSlotForSession(1));
  EXPECT_FALSE(scheduler.TakeSlotForSession(0));
}

TEST(SchedulerTest, RefusesWhatTheSessionsLeaveNoRoomFor) {
  Scheduler scheduler;
  scheduler.Enqueue({.ticket = 1, .slots = 4});
  scheduler.Enqueue({.ticket = 2, .slots = 3});
  const Scheduler::Admission admission = scheduler.Admit(0, 3);
  EXPECT_EQ(admission.refused, Tickets{1});
  EXPECT_TRUE(admission.admitted.empty());
  EXPECT_EQ(scheduler.size(), 1u);
}

// Requests of 1 to 8 slots on 8 slots, held for a random time, arriving faster than they can be served.
TEST(SchedulerTest, NobodyStarvesUnderOverload) {
  std::mt19937_64 random(1);
  Scheduler scheduler;
  std::map<RequestTicket, std::pair<uint32_t, int>> arrived;  // slots, tick
  std::multimap<int, uint32_t> running;                       // end tick, slots
  RequestTicket next = 1;
  uint32_t free = 8;
  int wait_max = 0;
  constexpr int kHoldMax = 5;
  for (int tick = 0; tick < 20000; ++tick) {
    while (!running.empty() && running.begin()->first <= tick) {
      free += running.begin()->second;
      running.erase(running.begin());
    }
    if (scheduler.size() < 20) {
      const auto slots = static_cast<uint32_t>(1 + random() % 8);
      scheduler.Enqueue({.ticket = next, .slots = slots});
      arrived[next++] = {slots, tick};
    }
    for (const RequestTicket ticket : scheduler.Admit(free, 8).admitted) {
      const auto [slots, since] = arrived[ticket];
      ASSERT_LE(slots, free);
      free -= slots;
      wait_max = std::max(wait_max, tick - since);
      running.emplace(tick + 1 + static_cast<int>(random() % kHoldMax), slots);
    }
  }
  // Of 20 ahead each may be passed kOvertakesMax times, and then waits for one holding time.
  EXPECT_LE(wait_max, 20 * (static_cast<int>(Scheduler::kOvertakesMax) + 1) * kHoldMax);
}

TEST(PlanDecodeTest, TakesAllRowsThatFit) {
  const std::vector<ReadyRow> ready = {{0, 9}, {1, 3}, {2, 5}};
  EXPECT_EQ(PlanDecode(ready, 3), (std::vector<uint32_t>{0, 1, 2}));
}

TEST(PlanDecodeTest, TakesThoseThatWaitedLongest) {
  const std::vector<ReadyRow> ready = {{0, 9}, {1, 3}, {2, 5}, {3, 3}};
  EXPECT_EQ(PlanDecode(ready, 3), (std::vector<uint32_t>{1, 3, 2}));
}

TEST(PromptBudgetTest, TakesNoMoreThanFitsIntoItsTimeButAnEighth) {
  EXPECT_EQ(PromptBudget(512, 9999), 512u);
  EXPECT_EQ(PromptBudget(512, 100), 100u);
  EXPECT_EQ(PromptBudget(512, 3), 64u);
  EXPECT_EQ(PromptBudget(512, 0), 64u);
  EXPECT_EQ(PromptBudget(4, 0), 1u);
}

TEST(TokenRateTest, FollowsWhatItObserves) {
  TokenRate rate;
  EXPECT_EQ(rate.TokensIn(absl::Seconds(1)), 0u);
  EXPECT_EQ(rate.TokensIn(absl::InfiniteDuration()), UINT32_MAX);
  rate.Observe(100, absl::Seconds(1));
  EXPECT_EQ(rate.TokensIn(absl::Milliseconds(500)), 50u);
  for (int i = 0; i < 50; ++i) rate.Observe(300, absl::Seconds(1));
  EXPECT_NEAR(rate.TokensIn(absl::Seconds(1)), 300, 1);
}

TEST(PartTimeTest, ExpectsNoLessThanTheLastPartsTook) {
  PartTime time;
  EXPECT_EQ(time.Expect(10), absl::InfiniteDuration());
  time.Observe(100, 4, absl::Milliseconds(8));
  EXPECT_EQ(time.Expect(100), absl::Milliseconds(2));
  EXPECT_EQ(time.Expect(1), absl::Milliseconds(2));
  EXPECT_EQ(time.Expect(250), absl::Milliseconds(5));
}

TEST(PlanPartsTest, TakesAboutItsTimeAndAtLeastOne) {
  EXPECT_EQ(PlanParts(48, absl::Milliseconds(1), absl::Milliseconds(10)), 10u);
  EXPECT_EQ(PlanParts(48, absl::Milliseconds(2), absl::Milliseconds(23)), 12u);
  EXPECT_EQ(PlanParts(12, absl::Milliseconds(1), absl::Milliseconds(10)), 12u);
  EXPECT_EQ(PlanParts(13, absl::Milliseconds(1), absl::Milliseconds(10)), 7u);
  EXPECT_EQ(PlanParts(48, absl::Milliseconds(4), absl::Milliseconds(10)), 3u);
  EXPECT_EQ(PlanParts(7, absl::Milliseconds(1), absl::Milliseconds(10)), 7u);
  EXPECT_EQ(PlanParts(48, absl::Milliseconds(100), absl::Milliseconds(10)), 1u);
  EXPECT_EQ(PlanParts(48, absl::InfiniteDuration(), absl::Milliseconds(10)), 1u);
  EXPECT_EQ(PlanParts(48, absl::ZeroDuration(), absl::ZeroDuration()), 48u);
  EXPECT_EQ(PlanParts(48, absl::Milliseconds(1), absl::InfiniteDuration()), 48u);
}

uint64_t Sum(const auto& values) { return std::accumulate(values.begin(), values.end(), uint64_t{0}); }

TEST(PlanPromptsTest, SpendsTheWholeBudgetAndNoMore) {
  std::mt19937_64 random(2);
  for (int round = 0; round < 2000; ++round) {
    std::vector<uint64_t> remaining(random() % 6);
    for (uint64_t& tokens : remaining) tokens = random() % 40;
    const auto budget = static_cast<uint32_t>(1 + random() % 64);
    const std::vector<uint32_t> shares = PlanPrompts(remaining, budget);
    ASSERT_EQ(shares.size(), remaining.size());
    for (size_t i = 0; i < shares.size(); ++i) EXPECT_LE(shares[i], remaining[i]);
    EXPECT_EQ(Sum(shares), std::min<uint64_t>(budget, Sum(remaining)));
  }
}

TEST(PlanPromptsTest, TheOldestPromptGetsHalfWhateverArrives) {
  EXPECT_EQ(PlanPrompts(std::vector<uint64_t>{100, 1, 2, 3, 100}, 8), (std::vector<uint32_t>{4, 1, 2, 1, 0}));
  EXPECT_EQ(PlanPrompts(std::vector<uint64_t>{100, 5}, 1), (std::vector<uint32_t>{1, 0}));
}

TEST(PlanPromptsTest, AShortPromptPassesALongOne) {
  EXPECT_EQ(PlanPrompts(std::vector<uint64_t>{1000000, 1000000, 4}, 16), (std::vector<uint32_t>{8, 4, 4}));
}

}  // namespace
}  // namespace mambad
