// How mambactl says that something went wrong: one line on stderr, and an exit code.
#ifndef MAMBAD_CLIENT_CTL_FAIL_H_
#define MAMBAD_CLIENT_CTL_FAIL_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"

namespace mambad::ctl {

// "sampling.top_p must be in (0, 1] (INVALID_ARGUMENT: INVALID_PARAMETER, sampling.top_p)": what, code, and
// as far as known reason, field and the time to retry after. One line.
std::string ErrorLine(const absl::Status& status);

// Prints "mambactl: " and the line; returns the exit code of a failed call.
int Fail(const absl::Status& status);

// Prints "mambactl: " and the line; returns the exit code of a wrong command line.
int FailUsage(std::string_view what);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_FAIL_H_
