// From gRPC's status to absl's, details included. Internal to the library.
#ifndef MAMBAD_CLIENT_GRPC_STATUS_H_
#define MAMBAD_CLIENT_GRPC_STATUS_H_

#include <grpcpp/support/status.h>

#include "absl/status/status.h"

namespace mambad {

// Same code and message; each google.rpc detail becomes a payload (see errors.h).
absl::Status FromGrpc(const grpc::Status& status);

}  // namespace mambad

#endif  // MAMBAD_CLIENT_GRPC_STATUS_H_
