#include "server/session_service.h"

#include <memory>
#include <utility>

#include "server/convert.h"
#include "server/unary_call.h"
#include "server/verb_reactor.h"

namespace mambad {
namespace {

class AppendInputCall final : public UnaryCall {
 public:
  AppendInputCall(Backend* backend, const grpc::CallbackServerContext& context,
                  v1::AppendInputResponse* response)
      : UnaryCall(backend, Method::kAppendInput, context), response_(response) {}

 private:
  void Collect(const TokenEvent& event) override {}

  void OnSuccess(const EndEvent& end) override {
    ToProto(end.usage, response_->mutable_usage());
    if (end.session.has_value()) ToProto(*end.session, serving(), response_->mutable_session());
    Complete(absl::OkStatus());
  }

  v1::AppendInputResponse* const response_;
};

// Runs `verb(serving, engine request, done)` for a call whose answer is a Session.
template <class Request, class Verb>
grpc::ServerUnaryReactor* RunSessionVerb(Backend* backend, grpc::CallbackServerContext* context,
                                         const std::shared_ptr<const Serving>& serving,
                                         absl::StatusOr<Request> request, v1::Session* response, Verb verb) {
  if (!request.ok()) return FinishNow(context, request.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  verb(*std::move(request),
       FinishWhenDone<SessionInfo>(backend, reactor, [serving, response](const SessionInfo& info) {
         ToProto(info, *serving, response);
       }));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* SessionService::CreateSession(grpc::CallbackServerContext* context,
                                                        const v1::CreateSessionRequest* request,
                                                        v1::Session* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  return RunSessionVerb(backend_, context, *serving, FromProto(*request, **serving), response,
                        [&](CreateSessionRequest create, SessionDone done) {
                          (*serving)->engine->CreateSession(std::move(create), backend_->DeadlineOf(*context),
                                                            std::move(done));
                        });
}

grpc::ServerUnaryReactor* SessionService::GetSession(grpc::CallbackServerContext* context,
                                                     const v1::GetSessionRequest* request,
                                                     v1::Session* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  return RunSessionVerb(backend_, context, *serving, SessionIdOf(request->name(), "name"), response,
                        [&](std::string id, SessionDone done) {
                          (*serving)->engine->GetSession(std::move(id), backend_->DeadlineOf(*context),
                                                         std::move(done));
                        });
}

grpc::ServerUnaryReactor* SessionService::ListSessions(grpc::CallbackServerContext* context,
                                                       const v1::ListSessionsRequest* request,
                                                       v1::ListSessionsResponse* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  absl::StatusOr<ListSessionsRequest> list = FromProto(*request);
  if (!list.ok()) return FinishNow(context, list.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*serving)->engine->ListSessions(
      *std::move(list), backend_->DeadlineOf(*context),
      FinishWhenDone<SessionPage>(backend_, reactor, [serving = *serving, response](const SessionPage& page) {
        ToProto(page, *serving, response);
      }));
  return reactor;
}

grpc::ServerUnaryReactor* SessionService::DeleteSession(grpc::CallbackServerContext* context,
                                                        const v1::DeleteSessionRequest* request,
                                                        google::protobuf::Empty* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  absl::StatusOr<DeleteSessionRequest> deletion = FromProto(*request);
  if (!deletion.ok()) return FinishNow(context, deletion.status());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  (*serving)->engine->DeleteSession(
      *std::move(deletion), backend_->DeadlineOf(*context),
      FinishWhenDone<SessionInfo>(backend_, reactor, [](const SessionInfo&) {}));
  return reactor;
}

grpc::ServerUnaryReactor* SessionService::AppendInput(grpc::CallbackServerContext* context,
                                                      const v1::AppendInputRequest* request,
                                                      v1::AppendInputResponse* response) {
  return UnaryCall::Start(std::make_shared<AppendInputCall>(backend_, *context, response),
                          [&](const Serving& serving) { return FromProto(*request, serving); });
}

grpc::ServerUnaryReactor* SessionService::ForkSession(grpc::CallbackServerContext* context,
                                                      const v1::ForkSessionRequest* request,
                                                      v1::Session* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  return RunSessionVerb(backend_, context, *serving, FromProto(*request), response,
                        [&](ForkSessionRequest fork, SessionDone done) {
                          (*serving)->engine->ForkSession(std::move(fork), backend_->DeadlineOf(*context),
                                                          std::move(done));
                        });
}

}  // namespace mambad
