#include "client/retry.h"

#include <algorithm>
#include <cmath>

#include "client/errors.h"

namespace mambad {

std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, Repeat repeat, const absl::Status& status,
                                         int attempts, absl::Duration time_left, double uniform) {
  if (repeat == Repeat::kNever || attempts >= policy.max_attempts) return std::nullopt;
  if (!absl::IsUnavailable(status) && !absl::IsResourceExhausted(status)) return std::nullopt;

  const std::optional<absl::Duration> retry_after = DetailsOf(status).retry_after;
  if (!retry_after.has_value() && (absl::IsResourceExhausted(status) || repeat == Repeat::kWhenRefused))
    return std::nullopt;
  if (retry_after.value_or(absl::ZeroDuration()) > policy.max_backoff) return std::nullopt;

  const absl::Duration backoff =
      std::min(policy.initial_backoff * std::exp2(std::max(attempts - 1, 0)), policy.max_backoff);
  const absl::Duration wait =
      std::max(backoff, retry_after.value_or(absl::ZeroDuration())) * (1.0 + policy.jitter * uniform);
  if (wait >= time_left) return std::nullopt;
  return wait;
}

}  // namespace mambad
