// Errors with details: an absl::Status that also carries what google.rpc's ErrorInfo, BadRequest and
// RetryInfo need. The engine makes them, server/convert turns them into gRPC statuses; no proto type is
// involved.
//
// Texts come from a closed set of templates: they name the field or the rule, never the offending value, a
// path, or another tenant's id.
//
// Threads: pure functions.
#ifndef MAMBAD_ENGINE_ERROR_H_
#define MAMBAD_ENGINE_ERROR_H_

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mambad {

// Reasons of ErrorInfo (upper snake case, a contract with clients).
namespace reason {
inline constexpr char kInvalidParameter[] = "INVALID_PARAMETER";
inline constexpr char kSessionNotFound[] = "SESSION_NOT_FOUND";
inline constexpr char kSessionExists[] = "SESSION_EXISTS";
inline constexpr char kSessionBusy[] = "SESSION_BUSY";
inline constexpr char kPositionMismatch[] = "POSITION_MISMATCH";
inline constexpr char kEtagMismatch[] = "ETAG_MISMATCH";
inline constexpr char kModelNotFound[] = "MODEL_NOT_FOUND";
inline constexpr char kNoTokenizer[] = "NO_TOKENIZER";
inline constexpr char kQueueFull[] = "QUEUE_FULL";
inline constexpr char kNoFreeSlot[] = "NO_FREE_SLOT";
inline constexpr char kSlowReader[] = "SLOW_READER";
inline constexpr char kAnswerTooLong[] = "ANSWER_TOO_LONG";
inline constexpr char kLoading[] = "LOADING";
inline constexpr char kDraining[] = "DRAINING";
inline constexpr char kDeadlineTooShort[] = "DEADLINE_TOO_SHORT";
inline constexpr char kQueueTimeExceeded[] = "QUEUE_TIME_EXCEEDED";
inline constexpr char kStatePoisoned[] = "STATE_POISONED";
inline constexpr char kDeviceLost[] = "DEVICE_LOST";
}  // namespace reason

struct ErrorDetail {
  std::string reason;                           // one of the constants above; ErrorInfo.reason
  std::string field;                            // proto field path ("sampling.top_p"); empty: no BadRequest
  std::map<std::string, std::string> metadata;  // ErrorInfo.metadata, e.g. {"position": "17"}
  std::optional<absl::Duration> retry_after;    // RetryInfo.retry_delay
};

// A status of `code` with `detail` attached. REQUIRES: code is not OK.
absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorDetail& detail);

// INVALID_ARGUMENT, INVALID_PARAMETER, naming `field`; the message is "<field> <rule>", e.g. "sampling.top_p
// must be in (0, 1]".
absl::Status InvalidField(std::string_view field, std::string_view rule);

// UNAVAILABLE, DRAINING + RetryInfo.
absl::Status DrainingError();
// INTERNAL, STATE_POISONED.
absl::Status StatePoisonedError();
// `code`, DEVICE_LOST: INTERNAL for what ran, UNAVAILABLE for what did not.
absl::Status DeviceLostError(absl::StatusCode code);

// The detail that MakeError attached; an empty one for a plain status.
ErrorDetail DetailOf(const absl::Status& status);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_ERROR_H_
