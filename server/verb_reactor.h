// Small unary calls: those that one step answers (session verbs, look-ups). gRPC's default reactor serves;
// the answer comes from the engine thread, or at once.
#ifndef MAMBAD_SERVER_VERB_REACTOR_H_
#define MAMBAD_SERVER_VERB_REACTOR_H_

#include <memory>
#include <utility>

#include "absl/status/statusor.h"
#include "grpcpp/server_context.h"
#include "grpcpp/support/server_callback.h"
#include "server/backend.h"
#include "server/grpc_status.h"

namespace mambad {

inline grpc::ServerUnaryReactor* FinishNow(grpc::CallbackServerContext* context, const absl::Status& status) {
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  reactor->Finish(ToGrpcStatus(status));
  return reactor;
}

// A done callback for an engine verb: `fill(value)` completes the response, on the delivery thread.
template <class T, class Fill>
std::function<void(absl::StatusOr<T>)> FinishWhenDone(Backend* backend, grpc::ServerUnaryReactor* reactor,
                                                      Fill fill) {
  return [backend, reactor, fill](absl::StatusOr<T> result) {
    backend->Deliver([reactor, fill, result = std::move(result)] {
      if (result.ok()) fill(*result);
      reactor->Finish(ToGrpcStatus(result.status()));
    });
  };
}

}  // namespace mambad

#endif  // MAMBAD_SERVER_VERB_REACTOR_H_
