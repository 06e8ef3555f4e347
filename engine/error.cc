#include "engine/error.h"

#include <nlohmann/json.hpp>
#include <utility>

#include "absl/strings/cord.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"

namespace mambad {
namespace {

using nlohmann::json;

// The payload of the status: a private encoding between MakeError and DetailOf.
constexpr char kPayload[] = "mambad/error-detail";

// About what a restart takes.
constexpr absl::Duration kRetryAfterDraining = absl::Seconds(5);

}  // namespace

absl::Status MakeError(absl::StatusCode code, std::string_view message, const ErrorDetail& detail) {
  MAMBAD_CHECK(code != absl::StatusCode::kOk);
  json encoded = {{"reason", detail.reason}, {"field", detail.field}, {"metadata", detail.metadata}};
  if (detail.retry_after) encoded["retry_after_ns"] = absl::ToInt64Nanoseconds(*detail.retry_after);
  absl::Status status(code, absl::string_view(message.data(), message.size()));
  status.SetPayload(kPayload, absl::Cord(encoded.dump(-1, ' ', true, json::error_handler_t::replace)));
  return status;
}

absl::Status InvalidField(std::string_view field, std::string_view rule) {
  return MakeError(absl::StatusCode::kInvalidArgument,
                   absl::StrCat(std::string(field), " ", std::string(rule)),
                   {.reason = reason::kInvalidParameter, .field = std::string(field)});
}

absl::Status DrainingError() {
  return MakeError(absl::StatusCode::kUnavailable, "the server is draining",
                   {.reason = reason::kDraining, .retry_after = kRetryAfterDraining});
}

absl::Status StatePoisonedError() {
  return MakeError(absl::StatusCode::kInternal, "the state became non-finite",
                   {.reason = reason::kStatePoisoned});
}

absl::Status DeviceLostError(absl::StatusCode code) {
  return MakeError(code, "the device was lost", {.reason = reason::kDeviceLost});
}

ErrorDetail DetailOf(const absl::Status& status) {
  ErrorDetail detail;
  const absl::optional<absl::Cord> payload = status.GetPayload(kPayload);
  if (!payload) return detail;
  const json encoded = json::parse(std::string(*payload), nullptr, /*allow_exceptions=*/false);
  MAMBAD_CHECK(encoded.is_object());
  detail.reason = encoded.value("reason", "");
  detail.field = encoded.value("field", "");
  for (const auto& [key, value] : encoded["metadata"].items())
    detail.metadata[key] = value.get<std::string>();
  if (encoded.contains("retry_after_ns")) {
    detail.retry_after = absl::Nanoseconds(encoded["retry_after_ns"].get<int64_t>());
  }
  return detail;
}

}  // namespace mambad
