#include "client/errors.h"

#include "absl/strings/cord.h"
#include "absl/types/optional.h"
#include "client/grpc_status.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mambad {
namespace {

constexpr char kErrorInfo[] = "type.googleapis.com/google.rpc.ErrorInfo";
constexpr char kBadRequest[] = "type.googleapis.com/google.rpc.BadRequest";
constexpr char kRetryInfo[] = "type.googleapis.com/google.rpc.RetryInfo";

// Fills `message` from the payload; false without one or when it does not parse.
template <typename Message>
bool ReadPayload(const absl::Status& status, const char* type_url, Message& message) {
  const absl::optional<absl::Cord> payload = status.GetPayload(type_url);
  return payload.has_value() && message.ParseFromString(std::string(*payload));
}

}  // namespace

ErrorDetails DetailsOf(const absl::Status& status) {
  ErrorDetails details;
  if (google::rpc::ErrorInfo info; ReadPayload(status, kErrorInfo, info)) {
    details.reason = info.reason();
    details.domain = info.domain();
    details.metadata = {info.metadata().begin(), info.metadata().end()};
  }
  if (google::rpc::BadRequest bad; ReadPayload(status, kBadRequest, bad)) {
    for (const auto& violation : bad.field_violations())
      details.violations.push_back({violation.field(), violation.description()});
  }
  if (google::rpc::RetryInfo retry; ReadPayload(status, kRetryInfo, retry)) {
    details.retry_after =
        absl::Seconds(retry.retry_delay().seconds()) + absl::Nanoseconds(retry.retry_delay().nanos());
  }
  return details;
}

absl::Status FromGrpc(const grpc::Status& status) {
  if (status.ok()) return absl::OkStatus();
  // The two enumerations have the same values; absl maps a foreign one to UNKNOWN.
  absl::Status result(static_cast<absl::StatusCode>(status.error_code()), status.error_message());
  google::rpc::Status rich;
  if (!status.error_details().empty() && rich.ParseFromString(status.error_details())) {
    for (const auto& detail : rich.details())
      result.SetPayload(detail.type_url(), absl::Cord(detail.value()));
  }
  return result;
}

}  // namespace mambad
