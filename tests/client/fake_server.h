// A server that speaks mambad.v1 without a model: what it says is a function of the request, and it can be
// told to fail, to stall and to count.
#ifndef MAMBAD_TESTS_CLIENT_FAKE_SERVER_H_
#define MAMBAD_TESTS_CLIENT_FAKE_SERVER_H_

#include <grpcpp/grpcpp.h>

#include <cstdint>
#include <deque>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/time/time.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "mambad/v1/model.grpc.pb.h"
#include "mambad/v1/server.grpc.pb.h"
#include "mambad/v1/session.grpc.pb.h"

namespace mambad::testing {

// A status with google.rpc details, as mambad sends them.
struct RichStatus {
  grpc::StatusCode code = grpc::StatusCode::UNKNOWN;
  std::string message;
  std::string reason;
  std::string field;
  std::map<std::string, std::string> metadata;
  std::optional<absl::Duration> retry_after;

  grpc::Status ToGrpc() const;
};

// What the fake says: token i of a request is the id 100 + i, its text " w<i>".
inline constexpr uint32_t kFirstToken = 100;
std::string TextOfTokens(uint32_t count);

class FakeServer final : v1::GenerationService::Service,
                         v1::SessionService::Service,
                         v1::ModelService::Service,
                         v1::ServerService::Service {
 public:
  FakeServer();
  ~FakeServer() override;

  const std::string& address() const { return address_; }

  // The next calls (of any kind but health and model) fail like this, one each.
  void FailNext(std::vector<RichStatus> failures);
  // Streams stop after so many tokens and wait for their cancellation or deadline; nothing: they do not.
  void StallAfter(std::optional<uint32_t> tokens);
  // Streams end with this status after so many tokens.
  void FailAfter(uint32_t tokens, RichStatus failure);
  void SetHasTokenizer(bool has);
  void SetServing(bool serving);

  // Calls that reached the server, failed ones included.
  int calls() const;
  // Streams that ended because their client cancelled them.
  int cancelled_streams() const;
  std::vector<v1::GenerateRequest> generate_requests() const;
  size_t sessions() const;
  // Position of "sessions/<id>"; nothing when there is none.
  std::optional<uint64_t> Position(const std::string& name) const;

 private:
  template <typename Response>
  using Writer = grpc::ServerWriter<Response>;

  grpc::Status Generate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                        v1::GenerateResponse* response) override;
  grpc::Status StreamGenerate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                              Writer<v1::StreamGenerateResponse>* writer) override;
  grpc::Status Score(grpc::ServerContext* context, const v1::ScoreRequest* request,
                     v1::ScoreResponse* response) override;
  grpc::Status CreateSession(grpc::ServerContext* context, const v1::CreateSessionRequest* request,
                             v1::Session* response) override;
  grpc::Status GetSession(grpc::ServerContext* context, const v1::GetSessionRequest* request,
                          v1::Session* response) override;
  grpc::Status ListSessions(grpc::ServerContext* context, const v1::ListSessionsRequest* request,
                            v1::ListSessionsResponse* response) override;
  grpc::Status DeleteSession(grpc::ServerContext* context, const v1::DeleteSessionRequest* request,
                             google::protobuf::Empty* response) override;
  grpc::Status AppendInput(grpc::ServerContext* context, const v1::AppendInputRequest* request,
                           v1::AppendInputResponse* response) override;
  grpc::Status ForkSession(grpc::ServerContext* context, const v1::ForkSessionRequest* request,
                           v1::Session* response) override;
  grpc::Status GetModel(grpc::ServerContext* context, const v1::GetModelRequest* request,
                        v1::Model* response) override;
  grpc::Status ListModels(grpc::ServerContext* context, const v1::ListModelsRequest* request,
                          v1::ListModelsResponse* response) override;
  grpc::Status GetServerInfo(grpc::ServerContext* context, const v1::GetServerInfoRequest* request,
                             v1::ServerInfo* response) override;

  // Counts a call; the failure that waits for it, if any.
  std::optional<grpc::Status> Enter();
  void SetState(const std::string& name, v1::Session::State state);
  grpc::Status StreamTokens(grpc::ServerContext* context, const v1::GenerateRequest& request,
                            std::optional<uint32_t> stall_after,
                            const std::optional<std::pair<uint32_t, RichStatus>>& fail_after,
                            bool has_tokenizer, Writer<v1::StreamGenerateResponse>* writer);
  v1::Usage UsageOf(const v1::GenerateRequest& request, uint64_t output_tokens);
  // Adds to the session's position (unless `name` is empty) and returns it.
  uint64_t Advance(const std::string& name, uint64_t tokens);
  grpc::Status Add(const std::string& id, uint64_t position, v1::Session* response);

  mutable std::mutex mutex_;
  std::deque<RichStatus> failures_;
  std::optional<uint32_t> stall_after_;
  std::optional<std::pair<uint32_t, RichStatus>> fail_after_;
  bool has_tokenizer_ = true;
  int calls_ = 0;
  int cancelled_streams_ = 0;
  int made_ids_ = 0;
  std::vector<v1::GenerateRequest> generate_requests_;
  std::map<std::string, v1::Session> sessions_;
  std::string address_;
  std::unique_ptr<grpc::Server> server_;
};

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_CLIENT_FAKE_SERVER_H_
