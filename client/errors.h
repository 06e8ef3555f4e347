// The details that a mambad error carries beside its code and message.
//
// A status of mambad::Client keeps the server's google.rpc details as payloads under their own type URLs, so
// it can be passed on and still be read. Threads: pure functions.
#ifndef MAMBAD_CLIENT_ERRORS_H_
#define MAMBAD_CLIENT_ERRORS_H_

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mambad {

struct ErrorDetails {
  struct FieldViolation {
    std::string field;  // path in the request, e.g. "sampling.top_p"
    std::string description;
  };

  std::string reason;  // ErrorInfo.reason, e.g. "SESSION_BUSY"; empty when the server sent none
  std::string domain;  // ErrorInfo.domain, "mambad"
  std::map<std::string, std::string> metadata;  // e.g. {"position": "17"} for POSITION_MISMATCH
  std::vector<FieldViolation> violations;       // BadRequest, for INVALID_ARGUMENT
  std::optional<absl::Duration> retry_after;    // RetryInfo: the server refused, and predicts room by then
};

// What `status` carries; everything empty for a status without details. Details that do not parse are left
// out.
ErrorDetails DetailsOf(const absl::Status& status);

}  // namespace mambad

#endif  // MAMBAD_CLIENT_ERRORS_H_
