#include "server/grpc_status.h"

#include <algorithm>
#include <string>

#include "absl/time/time.h"
#include "engine/error.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mambad {
namespace {

// Details and text share the client's 8 KiB of metadata.
constexpr size_t kMessageBytesMax = 1024;

void AddRetryInfo(absl::Duration delay, google::rpc::Status* status) {
  google::rpc::RetryInfo info;
  const absl::Duration bounded = std::clamp(delay, absl::ZeroDuration(), absl::Hours(1));
  info.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(bounded));
  info.mutable_retry_delay()->set_nanos(
      static_cast<int32_t>(absl::ToInt64Nanoseconds(bounded - absl::Seconds(absl::ToInt64Seconds(bounded)))));
  status->add_details()->PackFrom(info);
}

}  // namespace

grpc::Status ToGrpcStatus(const absl::Status& status) {
  if (status.ok()) return grpc::Status::OK;
  const auto code = static_cast<grpc::StatusCode>(status.raw_code());
  const std::string message(status.message().substr(0, kMessageBytesMax));
  const ErrorDetail detail = DetailOf(status);
  if (detail.reason.empty()) return grpc::Status(code, message);

  google::rpc::Status rich;
  rich.set_code(static_cast<int>(code));
  rich.set_message(message);
  google::rpc::ErrorInfo info;
  info.set_reason(detail.reason);
  info.set_domain(kErrorDomain);
  for (const auto& [key, value] : detail.metadata) (*info.mutable_metadata())[key] = value;
  rich.add_details()->PackFrom(info);
  if (!detail.field.empty()) {
    google::rpc::BadRequest bad;
    google::rpc::BadRequest::FieldViolation* violation = bad.add_field_violations();
    violation->set_field(detail.field);
    violation->set_description(message);
    rich.add_details()->PackFrom(bad);
  }
  if (detail.retry_after.has_value()) AddRetryInfo(*detail.retry_after, &rich);
  return grpc::Status(code, message, rich.SerializeAsString());
}

}  // namespace mambad
