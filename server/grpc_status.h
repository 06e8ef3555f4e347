// absl::Status to grpc::Status, the one place where an error of ours meets the wire: the code and the text as
// they are, and google.rpc details (ErrorInfo with domain "mambad", BadRequest, RetryInfo) in
// grpc-status-details-bin.
//
// Threads: pure functions.
#ifndef MAMBAD_SERVER_GRPC_STATUS_H_
#define MAMBAD_SERVER_GRPC_STATUS_H_

#include "absl/status/status.h"
#include "grpcpp/support/status.h"

namespace mambad {

inline constexpr char kErrorDomain[] = "mambad";

grpc::Status ToGrpcStatus(const absl::Status& status);

}  // namespace mambad

#endif  // MAMBAD_SERVER_GRPC_STATUS_H_
