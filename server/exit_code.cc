#include "server/exit_code.h"

#include <cstdio>
#include <string>

#include "engine/error.h"

namespace mambad {

int ExitCodeOf(const absl::Status& status) {
  if (status.ok()) return kExitOk;
  if (DetailOf(status).reason == reason::kDeviceLost) return kExitDeviceLost;
  switch (status.code()) {
    case absl::StatusCode::kInvalidArgument:
    case absl::StatusCode::kNotFound:
    case absl::StatusCode::kFailedPrecondition:
    case absl::StatusCode::kOutOfRange:
    case absl::StatusCode::kUnimplemented:
    case absl::StatusCode::kPermissionDenied:
    case absl::StatusCode::kResourceExhausted:
      return kExitUsage;
    default:
      return kExitFailure;
  }
}

int FailWith(const absl::Status& status) {
  std::string message(status.message());
  for (char& c : message) {
    if (c == '\n' || c == '\r') c = ' ';
  }
  std::fprintf(stderr, "mambad: %s\n", message.c_str());
  return ExitCodeOf(status);
}

}  // namespace mambad
