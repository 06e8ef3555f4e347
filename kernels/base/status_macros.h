// Early return on a bad absl::Status or absl::StatusOr.
#ifndef MAMBAD_KERNELS_BASE_STATUS_MACROS_H_
#define MAMBAD_KERNELS_BASE_STATUS_MACROS_H_

#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

#define MAMBAD_RETURN_IF_ERROR(expression)                             \
  do {                                                                 \
    if (absl::Status mambad_status = (expression); !mambad_status.ok()) \
      return mambad_status;                                            \
  } while (0)

#define MAMBAD_CONCAT_INNER(a, b) a##b
#define MAMBAD_CONCAT(a, b) MAMBAD_CONCAT_INNER(a, b)

// MAMBAD_ASSIGN_OR_RETURN(auto x, F()): x = the value of F(), or return its status.
#define MAMBAD_ASSIGN_OR_RETURN(lhs, expression) \
  MAMBAD_ASSIGN_OR_RETURN_INNER(MAMBAD_CONCAT(mambad_statusor_, __LINE__), lhs, expression)
#define MAMBAD_ASSIGN_OR_RETURN_INNER(statusor, lhs, expression) \
  auto statusor = (expression);                                  \
  if (!statusor.ok()) return std::move(statusor).status();       \
  lhs = *std::move(statusor)

#endif  // MAMBAD_KERNELS_BASE_STATUS_MACROS_H_
