#include "client/ctl/bench_report.h"

#include "gtest/gtest.h"

namespace mambad::ctl {
namespace {

TEST(BenchReportTest, TakesNearestRankPercentiles) {
  std::vector<double> sample;
  for (int i = 100; i >= 1; --i) sample.push_back(i);
  const Percentiles percentiles = *PercentilesOf(sample);
  EXPECT_EQ(percentiles.p50, 50);
  EXPECT_EQ(percentiles.p90, 90);
  EXPECT_EQ(percentiles.p99, 99);
  EXPECT_EQ(PercentilesOf({7})->p99, 7);
  EXPECT_FALSE(PercentilesOf({}).has_value());
}

TEST(BenchReportTest, TheRateCountsOnlyTheTimeWhenAllDecode) {
  // A decodes from 1 s to 5 s, B from 2 s to 6 s: all decode from 2 s to 5 s.
  const StreamTimes a = {.start = 0, .end = 5, .arrivals = {{1, 1}, {2, 1}, {3, 1}, {4, 1}, {5, 1}}};
  const StreamTimes b = {.start = 0, .end = 6, .arrivals = {{2, 1}, {3, 2}, {4, 1}, {6, 4}}};
  const BenchReport report = BenchReport::Of({a, b});
  EXPECT_DOUBLE_EQ(*report.output_tokens_per_s, 6.0 / 3.0);
  EXPECT_EQ(report.ttft_ms->p50, 1000);
  EXPECT_EQ(report.ttft_ms->p99, 2000);
}

TEST(BenchReportTest, TokensThatComeTogetherShareTheirGap) {
  const BenchReport report = BenchReport::Of({{.start = 0, .end = 3, .arrivals = {{1, 1}, {3, 4}}}});
  EXPECT_EQ(report.itl_ms->p50, 500);
  EXPECT_EQ(report.itl_ms->p99, 500);
}

TEST(BenchReportTest, FailedStreamsAreErrorsAndNothingElse) {
  const StreamTimes good = {.start = 0, .end = 2, .arrivals = {{1, 1}, {2, 1}}};
  StreamTimes bad = {.start = 0, .end = 9, .arrivals = {{8, 1}}};
  bad.failed = true;
  const BenchReport report = BenchReport::Of({good, bad});
  EXPECT_EQ(report.errors, 1);
  EXPECT_EQ(report.ttft_ms->p99, 1000);
  EXPECT_DOUBLE_EQ(*report.output_tokens_per_s, 1.0);
}

TEST(BenchReportTest, WhatWasNotMeasuredIsNull) {
  const StreamTimes first = {.start = 0, .end = 2, .arrivals = {{1, 1}}};
  const StreamTimes second = {.start = 0, .end = 4, .arrivals = {{3, 1}}};
  EXPECT_TRUE(BenchReport::Of({first, second}).ToJson()["output_tokens_per_s"].is_null());
  EXPECT_TRUE(BenchReport::Of({}).ToJson()["ttft_ms"]["p50"].is_null());
}

}  // namespace
}  // namespace mambad::ctl
