// mambad.v1.SessionService.
//
// Threads: gRPC's callbacks; none blocks.
#ifndef MAMBAD_SERVER_SESSION_SERVICE_H_
#define MAMBAD_SERVER_SESSION_SERVICE_H_

#include "mambad/v1/session.grpc.pb.h"
#include "server/backend.h"

namespace mambad {

class SessionService final : public v1::SessionService::CallbackService {
 public:
  // `backend` outlives the service and its calls.
  explicit SessionService(Backend* backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* CreateSession(grpc::CallbackServerContext* context,
                                          const v1::CreateSessionRequest* request,
                                          v1::Session* response) override;
  grpc::ServerUnaryReactor* GetSession(grpc::CallbackServerContext* context,
                                       const v1::GetSessionRequest* request, v1::Session* response) override;
  grpc::ServerUnaryReactor* ListSessions(grpc::CallbackServerContext* context,
                                         const v1::ListSessionsRequest* request,
                                         v1::ListSessionsResponse* response) override;
  grpc::ServerUnaryReactor* DeleteSession(grpc::CallbackServerContext* context,
                                          const v1::DeleteSessionRequest* request,
                                          google::protobuf::Empty* response) override;
  grpc::ServerUnaryReactor* AppendInput(grpc::CallbackServerContext* context,
                                        const v1::AppendInputRequest* request,
                                        v1::AppendInputResponse* response) override;
  grpc::ServerUnaryReactor* ForkSession(grpc::CallbackServerContext* context,
                                        const v1::ForkSessionRequest* request,
                                        v1::Session* response) override;

 private:
  Backend* const backend_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_SESSION_SERVICE_H_
