#include "client/client.h"

#include <grpcpp/create_channel.h>

#include <algorithm>
#include <limits>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/call.h"
#include "client/grpc_status.h"
#include "client/stream_impl.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "mambad/v1/model.grpc.pb.h"
#include "mambad/v1/server.grpc.pb.h"
#include "mambad/v1/session.grpc.pb.h"

namespace mambad {
namespace {

// A server on the other side of a silent network is found missing after their sum. The server allows pings
// every 10 s.
constexpr int kKeepaliveMs = 20'000;
constexpr int kKeepaliveTimeoutMs = 10'000;
constexpr int kReconnectMinMs = 100;
constexpr int kReconnectMaxMs = 2'000;
// A first connection that fails is tried again for this long: two more attempts.
constexpr absl::Duration kSecondChance = absl::Milliseconds(400);

grpc::ChannelArguments ChannelArgumentsOf(const ClientOptions& options) {
  grpc::ChannelArguments arguments;
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  arguments.SetInt(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  arguments.SetInt(GRPC_ARG_INITIAL_RECONNECT_BACKOFF_MS, kReconnectMinMs);
  arguments.SetInt(GRPC_ARG_MAX_RECONNECT_BACKOFF_MS, kReconnectMaxMs);
  arguments.SetInt(GRPC_ARG_SERVICE_CONFIG_DISABLE_RESOLUTION, 1);
  arguments.SetInt(GRPC_ARG_USE_LOCAL_SUBCHANNEL_POOL, options.own_connection ? 1 : 0);
  // A small compressed message can unpack to any size: no algorithm but identity.
  arguments.SetInt(GRPC_COMPRESSION_CHANNEL_ENABLED_ALGORITHMS_BITSET, 1);
  arguments.SetMaxReceiveMessageSize(
      static_cast<int>(std::clamp<int64_t>(options.max_receive_bytes, 0, std::numeric_limits<int>::max())));
  if (!options.user_agent.empty()) arguments.SetUserAgentPrefix(options.user_agent);
  return arguments;
}

// Why a channel in TRANSIENT_FAILURE does not connect, in gRPC's words: only a call is told.
std::string ConnectError(const std::shared_ptr<grpc::Channel>& channel) {
  grpc::ClientContext context;
  context.set_deadline(absl::ToChronoTime(absl::Now() + absl::Seconds(1)));
  grpc::health::v1::HealthCheckResponse response;
  return grpc::health::v1::Health::NewStub(channel)->Check(&context, {}, &response).error_message();
}

absl::Status WaitUntilConnected(const std::shared_ptr<grpc::Channel>& channel, std::string_view address,
                                const ClientOptions& options) {
  const absl::Time deadline = absl::Now() + options.connect_timeout;
  absl::Time give_up = deadline;
  for (;;) {
    const grpc_connectivity_state state = channel->GetState(/*try_to_connect=*/true);
    if (state == GRPC_CHANNEL_READY) return absl::OkStatus();
    if (state == GRPC_CHANNEL_TRANSIENT_FAILURE && !options.wait_for_server)
      give_up = std::min(give_up, absl::Now() + kSecondChance);
    if (channel->WaitForStateChange(state, absl::ToChronoTime(give_up))) continue;
    if (give_up < deadline) {
      return absl::UnavailableError(
          absl::StrCat("no server answers at ", std::string(address), ": ", ConnectError(channel)));
    }
    return absl::UnavailableError(absl::StrCat("no server answered at ", std::string(address), " within ",
                                               absl::FormatDuration(options.connect_timeout)));
  }
}

Repeat RepeatOfTurn(bool on_session, bool expects_position) {
  return !on_session || expects_position ? Repeat::kAlways : Repeat::kNever;
}

}  // namespace

struct Client::Impl {
  explicit Impl(const std::shared_ptr<grpc::Channel>& channel)
      : generation(v1::GenerationService::NewStub(channel)),
        sessions(v1::SessionService::NewStub(channel)),
        models(v1::ModelService::NewStub(channel)),
        server(v1::ServerService::NewStub(channel)),
        health(grpc::health::v1::Health::NewStub(channel)) {}

  // Shared with the streams, which may outlive the client.
  std::shared_ptr<v1::GenerationService::Stub> generation;
  std::unique_ptr<v1::SessionService::Stub> sessions;
  std::unique_ptr<v1::ModelService::Stub> models;
  std::unique_ptr<v1::ServerService::Stub> server;
  std::unique_ptr<grpc::health::v1::Health::Stub> health;
};

namespace {

// Runs the unary `method` of `stub` until it succeeds or its status is final.
template <typename Stub, typename Request, typename Response>
absl::StatusOr<Response> Call(Stub& stub,
                              grpc::Status (Stub::*method)(grpc::ClientContext*, const Request&, Response*),
                              const Request& request, const CallOptions& options, Repeat repeat) {
  Attempts attempts(options, repeat);
  for (;;) {
    grpc::ClientContext context;
    attempts.Start(context);
    Response response;
    const absl::Status status = FromGrpc((stub.*method)(&context, request, &response));
    if (status.ok()) return response;
    const std::optional<absl::Duration> wait = attempts.Wait(status);
    if (!wait.has_value()) return status;
    absl::SleepFor(*wait);
  }
}

}  // namespace

absl::StatusOr<Client> Client::Connect(std::string_view address, const ClientOptions& options) {
  if (address.empty()) return absl::InvalidArgumentError("the server's address is empty");
  const std::shared_ptr<grpc::Channel> channel = grpc::CreateCustomChannel(
      std::string(address), grpc::InsecureChannelCredentials(), ChannelArgumentsOf(options));
  if (options.connect_timeout > absl::ZeroDuration()) {
    if (absl::Status status = WaitUntilConnected(channel, address, options); !status.ok()) return status;
  }
  return Client(std::make_shared<Impl>(channel));
}

absl::StatusOr<v1::GenerateResponse> Client::Generate(const v1::GenerateRequest& request,
                                                      const CallOptions& options) {
  return Call(*impl_->generation, &v1::GenerationService::Stub::Generate, request, options,
              RepeatOfTurn(!request.session().empty(), request.has_expect_position()));
}

GenerateStream Client::StreamGenerate(const v1::GenerateRequest& request, const CallOptions& options) {
  return GenerateStream(std::make_unique<GenerateStream::Impl>(
      impl_->generation, request, options,
      RepeatOfTurn(!request.session().empty(), request.has_expect_position())));
}

absl::StatusOr<v1::ScoreResponse> Client::Score(const v1::ScoreRequest& request, const CallOptions& options) {
  return Call(*impl_->generation, &v1::GenerationService::Stub::Score, request, options, Repeat::kAlways);
}

absl::StatusOr<v1::Session> Client::CreateSession(const v1::CreateSessionRequest& request,
                                                  const CallOptions& options) {
  return Call(*impl_->sessions, &v1::SessionService::Stub::CreateSession, request, options,
              Repeat::kWhenRefused);
}

absl::StatusOr<v1::Session> Client::GetSession(std::string_view name, const CallOptions& options) {
  v1::GetSessionRequest request;
  request.set_name(std::string(name));
  return Call(*impl_->sessions, &v1::SessionService::Stub::GetSession, request, options, Repeat::kAlways);
}

absl::StatusOr<v1::ListSessionsResponse> Client::ListSessions(const v1::ListSessionsRequest& request,
                                                              const CallOptions& options) {
  return Call(*impl_->sessions, &v1::SessionService::Stub::ListSessions, request, options, Repeat::kAlways);
}

absl::Status Client::DeleteSession(const v1::DeleteSessionRequest& request, const CallOptions& options) {
  return Call(*impl_->sessions, &v1::SessionService::Stub::DeleteSession, request, options,
              Repeat::kWhenRefused)
      .status();
}

absl::StatusOr<v1::AppendInputResponse> Client::AppendInput(const v1::AppendInputRequest& request,
                                                            const CallOptions& options) {
  return Call(*impl_->sessions, &v1::SessionService::Stub::AppendInput, request, options,
              RepeatOfTurn(/*on_session=*/true, request.has_expect_position()));
}

absl::StatusOr<v1::Session> Client::ForkSession(const v1::ForkSessionRequest& request,
                                                const CallOptions& options) {
  return Call(*impl_->sessions, &v1::SessionService::Stub::ForkSession, request, options,
              Repeat::kWhenRefused);
}

absl::StatusOr<v1::Model> Client::GetModel(std::string_view name, const CallOptions& options) {
  if (!name.empty()) {
    v1::GetModelRequest request;
    request.set_name(std::string(name));
    return Call(*impl_->models, &v1::ModelService::Stub::GetModel, request, options, Repeat::kAlways);
  }
  absl::StatusOr<v1::ListModelsResponse> list = Call(*impl_->models, &v1::ModelService::Stub::ListModels,
                                                     v1::ListModelsRequest(), options, Repeat::kAlways);
  if (!list.ok()) return list.status();
  if (list->models_size() != 1)
    return absl::FailedPreconditionError("the server does not have exactly one model: name one");
  return list->models(0);
}

absl::StatusOr<v1::TokenizeResponse> Client::Tokenize(const v1::TokenizeRequest& request,
                                                      const CallOptions& options) {
  return Call(*impl_->models, &v1::ModelService::Stub::Tokenize, request, options, Repeat::kAlways);
}

absl::StatusOr<v1::DetokenizeResponse> Client::Detokenize(const v1::DetokenizeRequest& request,
                                                          const CallOptions& options) {
  return Call(*impl_->models, &v1::ModelService::Stub::Detokenize, request, options, Repeat::kAlways);
}

absl::StatusOr<v1::ServerInfo> Client::GetServerInfo(const CallOptions& options) {
  return Call(*impl_->server, &v1::ServerService::Stub::GetServerInfo, v1::GetServerInfoRequest(), options,
              Repeat::kAlways);
}

absl::StatusOr<bool> Client::IsServing(std::string_view service, const CallOptions& options) {
  grpc::health::v1::HealthCheckRequest request;
  request.set_service(std::string(service));
  const auto response =
      Call(*impl_->health, &grpc::health::v1::Health::Stub::Check, request, options, Repeat::kNever);
  if (!response.ok()) return response.status();
  return response->status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

}  // namespace mambad
