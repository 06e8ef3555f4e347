#include "tests/support/in_process_server.h"

#include <algorithm>
#include <utility>

#include "absl/time/clock.h"
#include "engine/model/load.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"
#include "grpcpp/grpcpp.h"
#include "httplib.h"
#include "kernels/base/check.h"
#include "tests/support/test_device.h"

namespace mambad::testing {

std::shared_ptr<Serving> LoadServing(const std::string& model_folder, const EngineOptions& options) {
  absl::StatusOr<LoadedModel> loaded =
      LoadModel({.model = model_folder,
                 .device = TestsRunOnGpu() ? DeviceChoice::kCuda : DeviceChoice::kCpu,
                 .threads = 1});
  MAMBAD_CHECK(loaded.ok());
  std::shared_ptr<const Tokenizer> tokenizer;
  if (!loaded->tokenizer_path.empty()) {
    auto read = Tokenizer::Load(loaded->tokenizer_path);
    MAMBAD_CHECK(read.ok());
    tokenizer = *std::move(read);
  }
  auto serving = std::make_shared<Serving>();
  serving->model_id = "test-model";
  serving->defaults = loaded->defaults;
  auto engine = Engine::Create(loaded->model, tokenizer, options);
  MAMBAD_CHECK(engine.ok());
  serving->engine = *std::move(engine);
  return serving;
}

InProcessServer::InProcessServer() {
  const Address any{.host = "127.0.0.1", .port = 0};
  ServerOptions options;
  options.grpc_address = any;
  options.http_address = any;
  options.model_id = "test-model";
  auto server = Server::Listen(options);
  MAMBAD_CHECK(server.ok());
  server_ = *std::move(server);
  channel_ = grpc::CreateChannel(server_->grpc_address().ToString(), grpc::InsecureChannelCredentials());
  generation_ = v1::GenerationService::NewStub(channel_);
  sessions_ = v1::SessionService::NewStub(channel_);
  models_ = v1::ModelService::NewStub(channel_);
  info_ = v1::ServerService::NewStub(channel_);
}

InProcessServer::InProcessServer(std::shared_ptr<const Serving> serving) : InProcessServer() {
  serving_ = std::move(serving);
  server_->Serve(serving_);
}

InProcessServer::InProcessServer(const std::string& model_folder, const EngineOptions& options)
    : InProcessServer() {
  const std::shared_ptr<Serving> serving = LoadServing(model_folder, options);
  serving->engine->Start();
  serving_ = serving;
  server_->Serve(serving_);
}

InProcessServer::~InProcessServer() { server_->ShutDown(absl::Now()); }

InProcessServer::HttpAnswer InProcessServer::Get(const std::string& path) const {
  httplib::Client client(server_->http_address().host, server_->http_address().port);
  client.set_read_timeout(20);
  const httplib::Result result = client.Get(path);
  if (!result) return {};
  return {.status = result->status, .body = result->body};
}

Streamed ReadStream(v1::GenerationService::Stub& stub, grpc::ClientContext* context,
                    const v1::GenerateRequest& request) {
  Streamed streamed;
  streamed.candidates.resize(std::max<uint32_t>(request.candidate_count(), 1));
  const auto reader = stub.StreamGenerate(context, request);
  v1::StreamGenerateResponse response;
  while (reader->Read(&response)) {
    if (response.has_started()) {
      streamed.started = response.started();
      ++streamed.started_count;
    } else if (response.has_prompt_logprobs()) {
      for (const auto& logprob : response.prompt_logprobs().logprobs()) {
        streamed.prompt_logprobs.push_back(logprob);
      }
    } else if (response.has_delta()) {
      const v1::Delta& delta = response.delta();
      Streamed::Candidate& candidate = streamed.candidates.at(delta.candidate_index());
      MAMBAD_CHECK(candidate.finished_count == 0);  // Finished is a candidate's last event
      ++candidate.deltas;
      candidate.text += delta.text();
      candidate.token_ids.insert(candidate.token_ids.end(), delta.token_ids().begin(),
                                 delta.token_ids().end());
      candidate.logprobs.insert(candidate.logprobs.end(), delta.logprobs().begin(), delta.logprobs().end());
    } else if (response.has_finished()) {
      Streamed::Candidate& candidate = streamed.candidates.at(response.finished().candidate_index());
      candidate.finished = response.finished();
      ++candidate.finished_count;
    }
  }
  streamed.status = reader->Finish();
  return streamed;
}

Streamed ReadStream(v1::GenerationService::Stub& stub, const v1::GenerateRequest& request) {
  grpc::ClientContext context;
  return ReadStream(stub, &context, request);
}

ErrorDetails DetailsOf(const grpc::Status& status) {
  ErrorDetails details;
  google::rpc::Status rich;
  if (!rich.ParseFromString(status.error_details())) return details;
  for (const google::protobuf::Any& any : rich.details()) {
    google::rpc::ErrorInfo info;
    google::rpc::BadRequest bad;
    if (any.UnpackTo(&info)) {
      details.reason = info.reason();
      details.domain = info.domain();
      details.metadata.insert(info.metadata().begin(), info.metadata().end());
    } else if (any.UnpackTo(&bad)) {
      for (const auto& violation : bad.field_violations()) details.fields.push_back(violation.field());
    }
    details.has_retry_info |= any.Is<google::rpc::RetryInfo>();
  }
  return details;
}

}  // namespace mambad::testing
