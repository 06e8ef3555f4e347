// When a failed call may be made again, and after how long.
//
// Two conditions, both needed: the status says that waiting may help (UNAVAILABLE, or RESOURCE_EXHAUSTED with
// RetryInfo), and running twice does no harm (Repeat). Threads: pure functions.
#ifndef MAMBAD_CLIENT_RETRY_H_
#define MAMBAD_CLIENT_RETRY_H_

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mambad {

struct RetryPolicy {
  int max_attempts = 4;                                      // the first one included; 1: never retry
  absl::Duration initial_backoff = absl::Milliseconds(100);  // doubles with every attempt
  absl::Duration max_backoff = absl::Seconds(5);  // a server that asks for a longer wait is not asked again
  double jitter = 0.2;                            // waits are spread over [1, 1 + jitter] times their value
};

// What a second run of the same call could do.
enum class Repeat {
  kNever,        // change something twice
  kWhenRefused,  // the same, but a refusal with RetryInfo says that nothing ran
  kAlways,       // nothing: a read, a stateless request, or a turn that names the position it expects
};

// The wait before the next attempt; nothing when `status` is final. `attempts` have been made, `time_left`
// remains until the deadline, `uniform` in [0, 1) is the caller's random number.
std::optional<absl::Duration> RetryDelay(const RetryPolicy& policy, Repeat repeat, const absl::Status& status,
                                         int attempts, absl::Duration time_left, double uniform);

}  // namespace mambad

#endif  // MAMBAD_CLIENT_RETRY_H_
