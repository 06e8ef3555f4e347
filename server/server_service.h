// mambad.v1.ServerService: the server itself.
//
// Threads: gRPC's callbacks; none blocks.
#ifndef MAMBAD_SERVER_SERVER_SERVICE_H_
#define MAMBAD_SERVER_SERVER_SERVICE_H_

#include "mambad/v1/server.grpc.pb.h"
#include "server/backend.h"
#include "server/convert.h"
#include "server/verb_reactor.h"

namespace mambad {

class ServerService final : public v1::ServerService::CallbackService {
 public:
  // `backend` outlives the service and its calls.
  explicit ServerService(Backend* backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* GetServerInfo(grpc::CallbackServerContext* context,
                                          const v1::GetServerInfoRequest* request,
                                          v1::ServerInfo* response) override {
    const auto serving = backend_->serving();
    if (serving.ok()) ToProto(**serving, backend_->start_time(), kReceiveMessageBytes, response);
    return FinishNow(context, serving.status());
  }

 private:
  Backend* const backend_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_SERVER_SERVICE_H_
