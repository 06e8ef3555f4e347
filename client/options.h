// How a client connects, and how one call behaves.
#ifndef MAMBAD_CLIENT_OPTIONS_H_
#define MAMBAD_CLIENT_OPTIONS_H_

#include <cstdint>
#include <string>

#include "absl/time/time.h"
#include "client/retry.h"

namespace mambad {

struct ClientOptions {
  // How long Connect waits for the server; zero: it does not, and the first call finds out.
  absl::Duration connect_timeout = absl::Seconds(5);
  // Keep trying until connect_timeout while nothing listens there; otherwise the first refused connection
  // ends it.
  bool wait_for_server = false;
  // Largest answer that is accepted. A unary answer with log-probabilities is the largest one there is.
  int64_t max_receive_bytes = 256 << 20;
  // A connection of its own for this client. Off, clients of one process and one address may share one.
  bool own_connection = true;
  // Put before gRPC's own user agent.
  std::string user_agent;
};

struct CallOptions {
  // From the start of the call to its end, retries included; then DEADLINE_EXCEEDED.
  absl::Duration timeout = absl::InfiniteDuration();
  RetryPolicy retry;
};

}  // namespace mambad

#endif  // MAMBAD_CLIENT_OPTIONS_H_
