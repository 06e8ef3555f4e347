// What every call does around its RPC: deadline, attempts, waits. Internal to the library.
#ifndef MAMBAD_CLIENT_CALL_H_
#define MAMBAD_CLIENT_CALL_H_

#include <grpcpp/client_context.h>

#include <optional>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "client/options.h"

namespace mambad {

// The attempts of one call. Threads: one thread.
class Attempts {
 public:
  Attempts(const CallOptions& options, Repeat repeat);

  // Starts an attempt: gives `context` the call's deadline.
  void Start(grpc::ClientContext& context);
  // After a failed attempt: the wait before the next one, or nothing when `status` is final.
  std::optional<absl::Duration> Wait(const absl::Status& status) const;

 private:
  RetryPolicy policy_;
  Repeat repeat_;
  absl::Time deadline_;
  int attempts_ = 0;
};

}  // namespace mambad

#endif  // MAMBAD_CLIENT_CALL_H_
