// The server of `mambad serve` inside the test's own process: real gRPC over the loopback interface, a real
// engine on a small model, or an engine that the test brings along.
#ifndef MAMBAD_TESTS_SUPPORT_IN_PROCESS_SERVER_H_
#define MAMBAD_TESTS_SUPPORT_IN_PROCESS_SERVER_H_

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "grpcpp/channel.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "mambad/v1/model.grpc.pb.h"
#include "mambad/v1/server.grpc.pb.h"
#include "mambad/v1/session.grpc.pb.h"
#include "server/server.h"
#include "server/serving.h"

namespace mambad::testing {

class InProcessServer {
 public:
  // Listens and serves nothing yet.
  InProcessServer();
  // Serves a model folder.
  InProcessServer(const std::string& model_folder, const EngineOptions& options);
  // Serves with an engine of the test's own.
  explicit InProcessServer(std::shared_ptr<const Serving> serving);
  ~InProcessServer();
  InProcessServer(const InProcessServer&) = delete;
  InProcessServer& operator=(const InProcessServer&) = delete;

  Server& server() { return *server_; }
  const Serving& serving() const { return *serving_; }
  Engine& engine() const { return *serving_->engine; }

  std::shared_ptr<grpc::Channel> channel() const { return channel_; }
  v1::GenerationService::Stub& generation() { return *generation_; }
  v1::SessionService::Stub& sessions() { return *sessions_; }
  v1::ModelService::Stub& models() { return *models_; }
  v1::ServerService::Stub& info() { return *info_; }

  struct HttpAnswer {
    int status = 0;
    std::string body;
  };
  HttpAnswer Get(const std::string& path) const;

 private:
  std::unique_ptr<Server> server_;
  std::shared_ptr<const Serving> serving_;
  std::shared_ptr<grpc::Channel> channel_;
  std::unique_ptr<v1::GenerationService::Stub> generation_;
  std::unique_ptr<v1::SessionService::Stub> sessions_;
  std::unique_ptr<v1::ModelService::Stub> models_;
  std::unique_ptr<v1::ServerService::Stub> info_;
};

// A model folder with its engine, not started.
std::shared_ptr<Serving> LoadServing(const std::string& model_folder, const EngineOptions& options);

// What a stream said, put together.
struct Streamed {
  grpc::Status status;
  v1::Started started;
  int started_count = 0;
  std::vector<v1::TokenLogprob> prompt_logprobs;
  struct Candidate {
    std::string text;
    std::vector<uint32_t> token_ids;
    std::vector<v1::TokenLogprob> logprobs;
    int deltas = 0;
    int finished_count = 0;
    v1::Finished finished;
  };
  std::vector<Candidate> candidates;
};
Streamed ReadStream(v1::GenerationService::Stub& stub, grpc::ClientContext* context,
                    const v1::GenerateRequest& request);
Streamed ReadStream(v1::GenerationService::Stub& stub, const v1::GenerateRequest& request);

// The details of an error.
struct ErrorDetails {
  std::string reason;
  std::string domain;
  std::map<std::string, std::string> metadata;
  std::vector<std::string> fields;  // of BadRequest
  bool has_retry_info = false;
};
ErrorDetails DetailsOf(const grpc::Status& status);

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_IN_PROCESS_SERVER_H_
