// How the program ends: a contract with whoever starts it (supervisors, scripts, tests).
#ifndef MAMBAD_SERVER_EXIT_CODE_H_
#define MAMBAD_SERVER_EXIT_CODE_H_

#include "absl/status/status.h"

namespace mambad {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;       // a wrong flag, configuration or model folder
inline constexpr int kExitDeviceLost = 3;  // the device failed: a restart may help

// The exit code for a program that ends with `status`, and why that is the caller's to mend or not.
int ExitCodeOf(const absl::Status& status);

// Prints "mambad: <message>" to stderr, one line, and returns ExitCodeOf(status).
int FailWith(const absl::Status& status);

}  // namespace mambad

#endif  // MAMBAD_SERVER_EXIT_CODE_H_
