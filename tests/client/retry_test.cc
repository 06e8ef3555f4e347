#include "client/retry.h"

#include "absl/strings/cord.h"
#include "client/grpc_status.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace mambad {
namespace {

using testing::RichStatus;

constexpr absl::Duration kLong = absl::Hours(1);

absl::Status Unavailable() { return absl::UnavailableError("gone"); }

absl::Status Refused(grpc::StatusCode code, absl::Duration retry_after) {
  return FromGrpc(RichStatus{.code = code, .message = "full", .retry_after = retry_after}.ToGrpc());
}

absl::Status Full(absl::Duration retry_after) {
  return Refused(grpc::StatusCode::RESOURCE_EXHAUSTED, retry_after);
}

std::optional<absl::Duration> Delay(const absl::Status& status, Repeat repeat = Repeat::kAlways,
                                    int attempts = 1, absl::Duration left = kLong, double uniform = 0) {
  return RetryDelay(RetryPolicy(), repeat, status, attempts, left, uniform);
}

TEST(RetryTest, RepeatsOnlyWhatWaitingMayHelp) {
  EXPECT_TRUE(Delay(Unavailable()).has_value());
  EXPECT_TRUE(Delay(Full(absl::Milliseconds(5))).has_value());
  EXPECT_FALSE(Delay(absl::ResourceExhaustedError("message too large")).has_value());
  for (const absl::StatusCode code :
       {absl::StatusCode::kInvalidArgument, absl::StatusCode::kAborted, absl::StatusCode::kInternal,
        absl::StatusCode::kDeadlineExceeded, absl::StatusCode::kCancelled, absl::StatusCode::kNotFound,
        absl::StatusCode::kFailedPrecondition, absl::StatusCode::kUnknown}) {
    EXPECT_FALSE(Delay(absl::Status(code, "")).has_value()) << absl::StatusCodeToString(code);
  }
}

TEST(RetryTest, NeverRepeatsWhatDoesHarmTwice) {
  EXPECT_FALSE(Delay(Unavailable(), Repeat::kNever).has_value());
  EXPECT_FALSE(Delay(Full(absl::Milliseconds(5)), Repeat::kNever).has_value());
}

TEST(RetryTest, RepeatsAChangeOnlyAfterAnExplicitRefusal) {
  EXPECT_FALSE(Delay(Unavailable(), Repeat::kWhenRefused).has_value());
  EXPECT_TRUE(Delay(Full(absl::Milliseconds(5)), Repeat::kWhenRefused).has_value());
  EXPECT_TRUE(
      Delay(Refused(grpc::StatusCode::UNAVAILABLE, absl::Milliseconds(5)), Repeat::kWhenRefused).has_value());
}

TEST(RetryTest, DoublesTheWaitAndEndsAfterTheLastAttempt) {
  EXPECT_EQ(Delay(Unavailable(), Repeat::kAlways, 1), absl::Milliseconds(100));
  EXPECT_EQ(Delay(Unavailable(), Repeat::kAlways, 2), absl::Milliseconds(200));
  EXPECT_EQ(Delay(Unavailable(), Repeat::kAlways, 3), absl::Milliseconds(400));
  EXPECT_FALSE(Delay(Unavailable(), Repeat::kAlways, 4).has_value());
}

TEST(RetryTest, WaitsAsLongAsTheServerSaysWithJitterOnTop) {
  EXPECT_EQ(Delay(Full(absl::Seconds(1))), absl::Seconds(1));
  EXPECT_EQ(Delay(Full(absl::Seconds(1)), Repeat::kAlways, 1, kLong, 0.5), absl::Milliseconds(1100));
}

TEST(RetryTest, GivesUpWhenTheServerAsksForMoreThanThePolicyAllows) {
  EXPECT_FALSE(Delay(Full(absl::Seconds(6))).has_value());
}

TEST(RetryTest, NeverWaitsPastTheDeadline) {
  EXPECT_FALSE(Delay(Unavailable(), Repeat::kAlways, 1, absl::Milliseconds(100)).has_value());
  EXPECT_TRUE(Delay(Unavailable(), Repeat::kAlways, 1, absl::Milliseconds(101)).has_value());
  EXPECT_FALSE(Delay(Unavailable(), Repeat::kAlways, 1, -absl::Seconds(1)).has_value());
}

}  // namespace
}  // namespace mambad
