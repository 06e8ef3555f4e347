#include "engine/schedule/ledger.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "engine/error.h"

namespace mambad {
namespace {

GenerationRequest Request(size_t tokens) {
  GenerationRequest request;
  request.prompt.assign(tokens, 1);
  return request;
}

constexpr absl::Time kNow = absl::UnixEpoch();

TEST(LedgerTest, BoundsTheQueueByRequestsAndByTokens) {
  Ledger ledger(3, 100, 8, 64);
  EXPECT_TRUE(ledger.Accept(Request(60), kNow).ok());
  EXPECT_TRUE(absl::IsResourceExhausted(ledger.Accept(Request(41), kNow)));
  EXPECT_TRUE(ledger.Accept(Request(20), kNow).ok());
  EXPECT_TRUE(ledger.Accept(Request(20), kNow).ok());
  const absl::Status full = ledger.Accept(Request(0), kNow);
  EXPECT_EQ(DetailOf(full).reason, reason::kQueueFull);
  EXPECT_TRUE(DetailOf(full).retry_after.has_value());
  ledger.Start(absl::ZeroDuration());
  EXPECT_TRUE(absl::IsResourceExhausted(ledger.Accept(Request(1), kNow)));
  ledger.ReleaseTokens(60);
  EXPECT_TRUE(ledger.Accept(Request(60), kNow).ok());
}

TEST(LedgerTest, KeepsEveryRequestInExactlyOnePlace) {
  Ledger ledger(10, 100, 8, 64);
  ASSERT_TRUE(ledger.Accept(Request(1), kNow).ok());
  ASSERT_TRUE(ledger.Accept(Request(1), kNow).ok());
  ledger.Start(absl::Seconds(1));
  ledger.Finish(Method::kGenerate, /*was_running=*/false, absl::StatusCode::kCancelled, absl::Seconds(1));
  EngineStats stats = ledger.Stats();
  EXPECT_EQ(stats.requests_accepted, 2u);
  EXPECT_EQ(stats.requests_running, 1u);
  EXPECT_EQ(stats.requests_waiting, 0u);
  EXPECT_EQ(stats.requests_finished[0][static_cast<int>(absl::StatusCode::kCancelled)], 1u);
  ledger.Finish(Method::kGenerate, /*was_running=*/true, absl::StatusCode::kOk, absl::Seconds(2));
  stats = ledger.Stats();
  EXPECT_EQ(stats.requests_running, 0u);
  EXPECT_EQ(stats.request_duration.count, 2u);
  EXPECT_EQ(stats.request_duration.sum, 3);
}

TEST(LedgerTest, GivingUpKeepsTheSumWhateverTheEngineSaysLater) {
  Ledger ledger(10, 100, 8, 64);
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(ledger.Accept(Request(1), kNow).ok());
  ledger.Start(absl::ZeroDuration());
  const Ledger::GivenUp given_up[] = {{Method::kGenerate, absl::StatusCode::kInternal},
                                      {Method::kScore, absl::StatusCode::kUnavailable}};
  ledger.GiveUp(given_up);
  ledger.Start(absl::ZeroDuration());  // of one that has been given up
  EngineStats stats = ledger.Stats();
  EXPECT_EQ(stats.requests_running + stats.requests_waiting, 1u);
  EXPECT_EQ(stats.requests_finished[static_cast<int>(Method::kGenerate)]
                                   [static_cast<int>(absl::StatusCode::kInternal)],
            1u);
  EXPECT_EQ(stats.requests_finished[static_cast<int>(Method::kScore)]
                                   [static_cast<int>(absl::StatusCode::kUnavailable)],
            1u);
  ledger.Finish(Method::kGenerate, /*was_running=*/true, absl::StatusCode::kOk, absl::ZeroDuration());
  stats = ledger.Stats();
  EXPECT_EQ(stats.requests_running + stats.requests_waiting, 0u);
}

TEST(LedgerTest, RefusesADeadlineBeforeThePredictedStart) {
  Ledger ledger(10, 100, 4, 64);
  GenerationRequest request = Request(1);
  request.deadline = kNow + absl::Seconds(3);
  ledger.Publish({.free = 0, .running = 4, .waiting = 4}, 4, {}, kNow);
  EXPECT_TRUE(ledger.Accept(request, kNow).ok());  // nothing is known yet
  ledger.Publish({.free = 0, .running = 4, .waiting = 4, .service_time = absl::Seconds(4)}, 4, {}, kNow);
  const absl::Status late = ledger.Accept(request, kNow);
  EXPECT_TRUE(absl::IsDeadlineExceeded(late));
  EXPECT_EQ(DetailOf(late).reason, reason::kDeadlineTooShort);
  EXPECT_EQ(DetailOf(late).retry_after, absl::Seconds(5));
  request.deadline = kNow + absl::Seconds(6);
  EXPECT_TRUE(ledger.Accept(request, kNow).ok());
  request.max_queue_time = absl::Seconds(4);
  EXPECT_EQ(DetailOf(ledger.Accept(request, kNow)).reason, reason::kQueueTimeExceeded);
}

TEST(LedgerTest, PredictsTheWaitFromTheRateAtWhichSlotsComeBack) {
  SlotLoad load = {.free = 3, .running = 5, .waiting = 2};
  EXPECT_EQ(PredictWait(load, 1), absl::ZeroDuration());
  EXPECT_EQ(PredictWait(load, 2), std::nullopt);
  load.service_time = absl::Seconds(10);
  EXPECT_EQ(PredictWait(load, 2), absl::Seconds(2));
  EXPECT_EQ(PredictWait(load, 6), absl::Seconds(10));
}

TEST(LedgerTest, PredictsNoWaitForWhatNeedsNoSlot) {
  const SlotLoad load = {.free = 0, .running = 4, .waiting = 9, .service_time = absl::Seconds(4)};
  EXPECT_EQ(PredictWait(load, 0), absl::ZeroDuration());
}

TEST(LedgerTest, LeavesThePredictionForASessionsTurnToTheEngineThread) {
  Ledger ledger(10, 100, 4, 64);
  ledger.Publish({.free = 0, .running = 4, .waiting = 4, .service_time = absl::Seconds(4)}, 4, {}, kNow);
  GenerationRequest request = Request(1);
  request.session_id = "s";
  request.deadline = kNow + absl::Seconds(3);
  request.max_queue_time = absl::Seconds(3);
  EXPECT_TRUE(ledger.Accept(request, kNow).ok());
  request.deadline = kNow;
  EXPECT_EQ(DetailOf(ledger.Accept(request, kNow)).reason, reason::kDeadlineTooShort);
}

TEST(LedgerTest, AcceptsNothingWhileDrainingOrWithoutADevice) {
  Ledger ledger(10, 100, 8, 64);
  ledger.SetDraining();
  EXPECT_EQ(DetailOf(ledger.Accept(Request(1), kNow)).reason, reason::kDraining);
  ledger.SetDeviceLost();
  EXPECT_EQ(DetailOf(ledger.Accept(Request(1), kNow)).reason, reason::kDeviceLost);
  const EngineStats stats = ledger.Stats();
  EXPECT_EQ(stats.requests_accepted, 0u);
  EXPECT_EQ(stats.requests_rejected[0][static_cast<int>(absl::StatusCode::kUnavailable)], 2u);
}

TEST(HistogramTest, CountsEachValueInTheFirstBucketThatHoldsIt) {
  static const std::vector<double> bounds = {1, 2, 4};
  Histogram histogram(&bounds);
  for (const double value : {0.5, 1.0, 1.5, 4.0, 5.0}) histogram.Observe(value);
  histogram.Observe(3, 2);
  EXPECT_EQ(histogram.buckets, (std::vector<uint64_t>{2, 1, 3, 1}));
  EXPECT_EQ(histogram.count, 7u);
  EXPECT_EQ(histogram.sum, 18);
}

TEST(HistogramTest, LatencyBoundsHoldOpenTelemetrysAndFinerOnes) {
  const std::vector<double>& bounds = LatencyBounds();
  EXPECT_TRUE(std::is_sorted(bounds.begin(), bounds.end()));
  EXPECT_EQ(std::adjacent_find(bounds.begin(), bounds.end()), bounds.end());
  for (const double
           bound : {0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075,  // below 10 ms
                    0.01,   0.02,    0.04,   0.08,  0.16,   0.32,  0.64,  1.28,  2.56,
                    5.12,   10.24,   20.48,  40.96, 81.92,  // operation
                    0.025,  0.05,    0.075,  0.1,   0.15,   0.2,   0.3,   0.4,   0.5,
                    0.75,   1.0,     2.5,                     // output token
                    0.06,   0.25,    5.0,    7.5,   10.0}) {  // first token
    EXPECT_TRUE(std::binary_search(bounds.begin(), bounds.end(), bound)) << bound;
  }
}

}  // namespace
}  // namespace mambad
