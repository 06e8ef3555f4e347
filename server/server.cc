#include "server/server.h"

#include <atomic>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "grpcpp/ext/proto_server_reflection_plugin.h"
#include "grpcpp/grpcpp.h"
#include "grpcpp/health_check_service_interface.h"
#include "kernels/base/status_macros.h"
#include "server/backend.h"
#include "server/generation_service.h"
#include "server/http.h"
#include "server/metrics.h"
#include "server/model_service.h"
#include "server/server_service.h"
#include "server/session_service.h"

namespace mambad {
namespace {

// Found by measuring gRPC 1.51: a frozen client is noticed within 15 s, a silent socket is dropped after 5.
constexpr int kKeepaliveMs = 10000;
constexpr int kKeepaliveTimeoutMs = 5000;
constexpr int kPingIntervalMinMs = 10000;
constexpr int kPingStrikesMax = 2;
constexpr int kHandshakeTimeoutMs = 5000;
constexpr int kStreamsPerConnection = 1000;

const char* const kServices[] = {"", "mambad.v1.GenerationService", "mambad.v1.SessionService",
                                 "mambad.v1.ModelService", "mambad.v1.ServerService"};

void Configure(grpc::ServerBuilder* builder) {
  builder->SetMaxReceiveMessageSize(kReceiveMessageBytes);
  // gRPC 1.51 checks the size of a message after inflating it: 1 MB of gzip would cost 1 GB.
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_DEFLATE, false);
  builder->SetCompressionAlgorithmSupportStatus(GRPC_COMPRESS_GZIP, false);
  // Two servers must not share a port unnoticed: their sessions differ.
  builder->AddChannelArgument(GRPC_ARG_ALLOW_REUSEPORT, 0);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIME_MS, kKeepaliveMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_TIMEOUT_MS, kKeepaliveTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_KEEPALIVE_PERMIT_WITHOUT_CALLS, 1);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PINGS_WITHOUT_DATA, 0);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MIN_RECV_PING_INTERVAL_WITHOUT_DATA_MS, kPingIntervalMinMs);
  builder->AddChannelArgument(GRPC_ARG_HTTP2_MAX_PING_STRIKES, kPingStrikesMax);
  builder->AddChannelArgument(GRPC_ARG_SERVER_HANDSHAKE_TIMEOUT_MS, kHandshakeTimeoutMs);
  builder->AddChannelArgument(GRPC_ARG_MAX_CONCURRENT_STREAMS, kStreamsPerConnection);
}

}  // namespace

struct Server::Parts {
  explicit Parts(const ServerOptions& options)
      : backend(options.default_deadline),
        metrics(&backend, options.model_id),
        grpc_address(options.grpc_address) {}

  Backend backend;
  Metrics metrics;
  GenerationService generation{&backend};
  SessionService sessions{&backend};
  ModelService models{&backend};
  ServerService info{&backend};
  std::atomic<bool> healthy{true};
  std::atomic<bool> ready{false};
  Address grpc_address;
  std::unique_ptr<grpc::Server> grpc;
  std::unique_ptr<HttpPort> http;
};

Server::Server(std::unique_ptr<Parts> parts) : parts_(std::move(parts)) {}

Server::~Server() = default;

absl::StatusOr<std::unique_ptr<Server>> Server::Listen(const ServerOptions& options) {
  auto parts = std::make_unique<Parts>(options);
  Parts* const raw = parts.get();
  MAMBAD_ASSIGN_OR_RETURN(
      parts->http, HttpPort::Listen(options.http_address, {.metrics = [raw] { return raw->metrics.Text(); },
                                                           .healthy = [raw] { return raw->healthy.load(); },
                                                           .ready = [raw] { return raw->ready.load(); }}));
  grpc::EnableDefaultHealthCheckService(true);
  grpc::reflection::InitProtoReflectionServerBuilderPlugin();
  grpc::ServerBuilder builder;
  Configure(&builder);
  builder.AddListeningPort(options.grpc_address.ToString(), grpc::InsecureServerCredentials(),
                           &parts->grpc_address.port);
  builder.RegisterService(&parts->generation);
  builder.RegisterService(&parts->sessions);
  builder.RegisterService(&parts->models);
  builder.RegisterService(&parts->info);
  parts->grpc = builder.BuildAndStart();
  if (parts->grpc == nullptr || parts->grpc_address.port == 0) {
    return absl::UnavailableError(
        absl::StrCat("cannot listen on ", options.grpc_address.ToString(), " for gRPC"));
  }
  std::unique_ptr<Server> server(new Server(std::move(parts)));
  server->SetServing(false);
  return server;
}

const Address& Server::grpc_address() const { return parts_->grpc_address; }
const Address& Server::http_address() const { return parts_->http->address(); }

void Server::SetServing(bool serving) {
  for (const char* service : kServices) {
    parts_->grpc->GetHealthCheckService()->SetServingStatus(service, serving);
  }
  parts_->ready.store(serving);
}

void Server::Serve(std::shared_ptr<const Serving> serving) {
  parts_->backend.Publish(std::move(serving));
  SetServing(true);
}

void Server::Drain(absl::Time deadline, std::function<void()> drained) {
  SetServing(false);
  const auto serving = parts_->backend.serving();
  if (!serving.ok()) return drained();
  (*serving)->engine->Drain(deadline, std::move(drained));
}

bool Server::HasOpenCalls() const { return parts_->backend.open_calls() > 0; }

void Server::MarkUnhealthy() {
  parts_->healthy.store(false);
  SetServing(false);
  if (const auto serving = parts_->backend.serving(); serving.ok()) (*serving)->engine->LoseDevice();
}

void Server::ShutDown(absl::Time deadline) {
  parts_->grpc->Shutdown(absl::ToChronoTime(deadline));
  parts_->grpc->Wait();
}

void Server::CloseHttp() { parts_->http.reset(); }

}  // namespace mambad
