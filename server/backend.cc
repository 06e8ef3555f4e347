#include "server/backend.h"

#include <chrono>
#include <utility>

#include "absl/time/clock.h"
#include "engine/error.h"

namespace mambad {
namespace {

constexpr int kTokenizingThreads = 1;
constexpr size_t kTokenizingJobsMax = 64;
constexpr size_t kDeliveryJobsMax = 16384;
// A deadline further away than this is none.
constexpr absl::Duration kDeadlineMax = absl::Hours(24 * 365);

}  // namespace

Backend::Backend(absl::Duration default_deadline)
    : default_deadline_(default_deadline),
      start_time_(absl::Now()),
      tokenizing_(kTokenizingThreads, kTokenizingJobsMax),
      delivery_(1, kDeliveryJobsMax) {}

absl::StatusOr<std::shared_ptr<const Serving>> Backend::serving() const {
  const std::lock_guard lock(mu_);
  if (serving_ != nullptr) return serving_;
  return MakeError(absl::StatusCode::kUnavailable, "the model is loading",
                   {.reason = reason::kLoading, .retry_after = absl::Seconds(1)});
}

void Backend::Publish(std::shared_ptr<const Serving> serving) {
  const std::lock_guard lock(mu_);
  serving_ = std::move(serving);
}

absl::Time Backend::DeadlineOf(const grpc::CallbackServerContext& context) const {
  const absl::Time now = absl::Now();
  const std::chrono::system_clock::time_point deadline = context.deadline();
  const auto horizon = absl::ToChronoTime(now + kDeadlineMax);
  if (deadline < horizon) return absl::FromChrono(deadline);
  return default_deadline_ == absl::ZeroDuration() ? absl::InfiniteFuture() : now + default_deadline_;
}

void Backend::Deliver(const std::function<void()>& job) {
  if (!delivery_.TryPost(job)) job();
}

absl::Status TokenizingQueueFull() {
  return MakeError(absl::StatusCode::kResourceExhausted, "too many long texts wait to be tokenized",
                   {.reason = reason::kQueueFull, .retry_after = absl::Seconds(1)});
}

}  // namespace mambad
