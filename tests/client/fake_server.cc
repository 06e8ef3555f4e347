#include "tests/client/fake_server.h"

#include <grpcpp/health_check_service_interface.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "google/rpc/error_details.pb.h"
#include "google/rpc/status.pb.h"

namespace mambad::testing {
namespace {

constexpr uint32_t kDefaultTokens = 8;
constexpr auto kStallPoll = std::chrono::milliseconds(1);

uint64_t TokensOf(const v1::Prompt& prompt) {
  if (!prompt.has_text()) return static_cast<uint64_t>(prompt.token_ids().ids_size());
  // One token a word.
  const std::string& text = prompt.text();
  uint64_t words = 0;
  for (size_t i = 0; i < text.size(); ++i) words += text[i] != ' ' && (i == 0 || text[i - 1] == ' ') ? 1 : 0;
  return words;
}

uint32_t OutputTokens(const v1::GenerateRequest& request) {
  return request.stop().has_max_output_tokens() ? request.stop().max_output_tokens() : kDefaultTokens;
}

v1::Delta TokenDelta(const v1::GenerateRequest& request, uint32_t candidate, uint32_t i, bool has_tokenizer) {
  v1::Delta delta;
  delta.set_candidate_index(candidate);
  const bool text = has_tokenizer && !request.output().skip_text();
  if (text) delta.set_text(absl::StrCat(" w", i));
  if (!text || request.output().token_ids()) delta.add_token_ids(kFirstToken + i);
  if (request.output().logprobs()) {
    v1::TokenLogprob& logprob = *delta.add_logprobs();
    logprob.set_token_id(kFirstToken + i);
    logprob.set_logprob(-0.5F);
  }
  return delta;
}

}  // namespace

grpc::Status RichStatus::ToGrpc() const {
  google::rpc::Status rich;
  rich.set_code(code);
  rich.set_message(message);
  if (!reason.empty()) {
    google::rpc::ErrorInfo info;
    info.set_reason(reason);
    info.set_domain("mambad");
    info.mutable_metadata()->insert(metadata.begin(), metadata.end());
    rich.add_details()->PackFrom(info);
  }
  if (!field.empty()) {
    google::rpc::BadRequest bad;
    bad.add_field_violations()->set_field(field);
    rich.add_details()->PackFrom(bad);
  }
  if (retry_after.has_value()) {
    google::rpc::RetryInfo retry;
    retry.mutable_retry_delay()->set_seconds(absl::ToInt64Seconds(*retry_after));
    retry.mutable_retry_delay()->set_nanos(
        static_cast<int32_t>(absl::ToInt64Nanoseconds(*retry_after % absl::Seconds(1))));
    rich.add_details()->PackFrom(retry);
  }
  return grpc::Status(code, message, rich.SerializeAsString());
}

std::string TextOfTokens(uint32_t count) {
  std::string text;
  for (uint32_t i = 0; i < count; ++i) absl::StrAppend(&text, " w", i);
  return text;
}

FakeServer::FakeServer() {
  grpc::EnableDefaultHealthCheckService(true);
  grpc::ServerBuilder builder;
  int port = 0;
  builder.AddListeningPort("127.0.0.1:0", grpc::InsecureServerCredentials(), &port);
  builder.RegisterService(static_cast<v1::GenerationService::Service*>(this));
  builder.RegisterService(static_cast<v1::SessionService::Service*>(this));
  builder.RegisterService(static_cast<v1::ModelService::Service*>(this));
  builder.RegisterService(static_cast<v1::ServerService::Service*>(this));
  server_ = builder.BuildAndStart();
  address_ = absl::StrCat("127.0.0.1:", port);
}

FakeServer::~FakeServer() { server_->Shutdown(std::chrono::system_clock::now()); }

void FakeServer::FailNext(std::vector<RichStatus> failures) {
  std::lock_guard lock(mutex_);
  failures_.assign(failures.begin(), failures.end());
}

void FakeServer::StallAfter(std::optional<uint32_t> tokens) {
  std::lock_guard lock(mutex_);
  stall_after_ = tokens;
}

void FakeServer::FailAfter(uint32_t tokens, RichStatus failure) {
  std::lock_guard lock(mutex_);
  fail_after_ = {tokens, std::move(failure)};
}

void FakeServer::SetHasTokenizer(bool has) {
  std::lock_guard lock(mutex_);
  has_tokenizer_ = has;
}

void FakeServer::SetServing(bool serving) { server_->GetHealthCheckService()->SetServingStatus(serving); }

int FakeServer::calls() const {
  std::lock_guard lock(mutex_);
  return calls_;
}

int FakeServer::cancelled_streams() const {
  std::lock_guard lock(mutex_);
  return cancelled_streams_;
}

std::vector<v1::GenerateRequest> FakeServer::generate_requests() const {
  std::lock_guard lock(mutex_);
  return generate_requests_;
}

size_t FakeServer::sessions() const {
  std::lock_guard lock(mutex_);
  return sessions_.size();
}

std::optional<uint64_t> FakeServer::Position(const std::string& name) const {
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(name);
  if (found == sessions_.end()) return std::nullopt;
  return found->second.position();
}

std::optional<grpc::Status> FakeServer::Enter() {
  std::lock_guard lock(mutex_);
  ++calls_;
  if (failures_.empty()) return std::nullopt;
  const grpc::Status status = failures_.front().ToGrpc();
  failures_.pop_front();
  return status;
}

uint64_t FakeServer::Advance(const std::string& name, uint64_t tokens) {
  std::lock_guard lock(mutex_);
  if (name.empty()) return tokens;
  v1::Session& session = sessions_[name];
  session.set_position(session.position() + tokens);
  return session.position();
}

void FakeServer::SetState(const std::string& name, v1::Session::State state) {
  std::lock_guard lock(mutex_);
  if (!name.empty()) sessions_[name].set_state(state);
}

v1::Usage FakeServer::UsageOf(const v1::GenerateRequest& request, uint64_t output_tokens) {
  v1::Usage usage;
  usage.set_input_tokens(TokensOf(request.prompt()));
  usage.set_output_tokens(output_tokens);
  usage.set_session_position(Advance(request.session(), usage.input_tokens() + output_tokens));
  return usage;
}

grpc::Status FakeServer::Generate(grpc::ServerContext*, const v1::GenerateRequest* request,
                                  v1::GenerateResponse* response) {
  if (auto failure = Enter()) return *failure;
  const uint32_t tokens = OutputTokens(*request);
  v1::Candidate& candidate = *response->add_candidates();
  candidate.set_text(TextOfTokens(tokens));
  candidate.set_finish_reason(v1::LENGTH);
  for (uint32_t i = 0; i < tokens; ++i) candidate.add_token_ids(kFirstToken + i);
  response->set_request_id(request->request_id());
  *response->mutable_usage() = UsageOf(*request, tokens);
  return grpc::Status::OK;
}

grpc::Status FakeServer::StreamGenerate(grpc::ServerContext* context, const v1::GenerateRequest* request,
                                        Writer<v1::StreamGenerateResponse>* writer) {
  std::optional<uint32_t> stall_after;
  std::optional<std::pair<uint32_t, RichStatus>> fail_after;
  bool has_tokenizer = true;
  {
    std::lock_guard lock(mutex_);
    generate_requests_.push_back(*request);
    stall_after = stall_after_;
    fail_after = fail_after_;
    has_tokenizer = has_tokenizer_;
  }
  if (auto failure = Enter()) return *failure;
  SetState(request->session(), v1::Session::DECODING);
  const grpc::Status status = StreamTokens(context, *request, stall_after, fail_after, has_tokenizer, writer);
  SetState(request->session(), v1::Session::IDLE);
  return status;
}

grpc::Status FakeServer::StreamTokens(grpc::ServerContext* context, const v1::GenerateRequest& request,
                                      std::optional<uint32_t> stall_after,
                                      const std::optional<std::pair<uint32_t, RichStatus>>& fail_after,
                                      bool has_tokenizer, Writer<v1::StreamGenerateResponse>* writer) {
  v1::StreamGenerateResponse event;
  event.mutable_started()->set_request_id(request.request_id());
  event.mutable_started()->set_seed(request.sampling().seed());
  writer->Write(event);
  const uint32_t tokens = OutputTokens(request);
  for (uint32_t i = 0; i < tokens; ++i) {
    if (fail_after.has_value() && i == fail_after->first) return fail_after->second.ToGrpc();
    while (stall_after.has_value() && i == *stall_after && !context->IsCancelled())
      std::this_thread::sleep_for(kStallPoll);
    if (context->IsCancelled()) {
      Advance(request.session(), TokensOf(request.prompt()) + i);
      std::lock_guard lock(mutex_);
      ++cancelled_streams_;
      return grpc::Status::CANCELLED;
    }
    for (uint32_t candidate = 0; candidate < std::max(1U, request.candidate_count()); ++candidate) {
      *event.mutable_delta() = TokenDelta(request, candidate, i, has_tokenizer);
      writer->Write(event);
    }
  }
  for (uint32_t candidate = 0; candidate < std::max(1U, request.candidate_count()); ++candidate) {
    event.mutable_finished()->set_candidate_index(candidate);
    event.mutable_finished()->set_finish_reason(v1::LENGTH);
    *event.mutable_finished()->mutable_usage() = UsageOf(request, tokens);
    writer->Write(event);
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::Score(grpc::ServerContext*, const v1::ScoreRequest* request,
                               v1::ScoreResponse* response) {
  if (auto failure = Enter()) return *failure;
  const uint64_t tokens = TokensOf(request->text());
  for (uint64_t i = 0; i < tokens; ++i) {
    const auto id = static_cast<uint32_t>(kFirstToken + i);
    response->add_token_ids(id);
    v1::TokenLogprob& logprob = *response->add_logprobs();
    logprob.set_token_id(id);
    logprob.set_text(absl::StrCat(" w", i));
    if (i > 0) logprob.set_logprob(-1.5F);
  }
  response->set_total_logprob(-1.5 * static_cast<double>(tokens - 1));
  return grpc::Status::OK;
}

grpc::Status FakeServer::Add(const std::string& id, uint64_t position, v1::Session* response) {
  std::lock_guard lock(mutex_);
  const std::string name = "sessions/" + (id.empty() ? absl::StrCat("made-", made_ids_++) : id);
  if (sessions_.contains(name)) {
    return RichStatus{grpc::StatusCode::ALREADY_EXISTS, "session_id is taken", "SESSION_EXISTS"}.ToGrpc();
  }
  v1::Session& session = sessions_[name];
  session.set_name(name);
  session.set_model("models/fake");
  session.set_position(position);
  session.set_state(v1::Session::IDLE);
  session.set_exact(true);
  session.set_bytes(4096);
  *response = session;
  return grpc::Status::OK;
}

grpc::Status FakeServer::CreateSession(grpc::ServerContext*, const v1::CreateSessionRequest* request,
                                       v1::Session* response) {
  if (auto failure = Enter()) return *failure;
  const grpc::Status status = Add(request->session_id(), 0, response);
  if (!status.ok()) return status;
  std::lock_guard lock(mutex_);
  *sessions_[response->name()].mutable_labels() = request->session().labels();
  *response = sessions_[response->name()];
  return status;
}

grpc::Status FakeServer::GetSession(grpc::ServerContext*, const v1::GetSessionRequest* request,
                                    v1::Session* response) {
  if (auto failure = Enter()) return *failure;
  std::lock_guard lock(mutex_);
  const auto found = sessions_.find(request->name());
  if (found == sessions_.end())
    return RichStatus{grpc::StatusCode::NOT_FOUND, "no such session", "SESSION_NOT_FOUND"}.ToGrpc();
  *response = found->second;
  return grpc::Status::OK;
}

grpc::Status FakeServer::ListSessions(grpc::ServerContext*, const v1::ListSessionsRequest* request,
                                      v1::ListSessionsResponse* response) {
  if (auto failure = Enter()) return *failure;
  std::lock_guard lock(mutex_);
  for (auto it = sessions_.upper_bound(request->page_token()); it != sessions_.end(); ++it) {
    // Pages of two, so that every listing test turns one.
    if (response->sessions_size() == 2) {
      response->set_next_page_token(response->sessions(1).name());
      break;
    }
    *response->add_sessions() = it->second;
  }
  return grpc::Status::OK;
}

grpc::Status FakeServer::DeleteSession(grpc::ServerContext*, const v1::DeleteSessionRequest* request,
                                       google::protobuf::Empty*) {
  if (auto failure = Enter()) return *failure;
  std::lock_guard lock(mutex_);
  if (sessions_.erase(request->name()) == 0 && !request->allow_missing())
    return RichStatus{grpc::StatusCode::NOT_FOUND, "no such session", "SESSION_NOT_FOUND"}.ToGrpc();
  return grpc::Status::OK;
}

grpc::Status FakeServer::AppendInput(grpc::ServerContext*, const v1::AppendInputRequest* request,
                                     v1::AppendInputResponse* response) {
  if (auto failure = Enter()) return *failure;
  const uint64_t tokens = TokensOf(request->prompt());
  response->mutable_usage()->set_input_tokens(tokens);
  response->mutable_usage()->set_session_position(Advance(request->name(), tokens));
  std::lock_guard lock(mutex_);
  *response->mutable_session() = sessions_[request->name()];
  return grpc::Status::OK;
}

grpc::Status FakeServer::ForkSession(grpc::ServerContext*, const v1::ForkSessionRequest* request,
                                     v1::Session* response) {
  if (auto failure = Enter()) return *failure;
  const std::optional<uint64_t> position = Position(request->name());
  if (!position.has_value())
    return RichStatus{grpc::StatusCode::NOT_FOUND, "no such session", "SESSION_NOT_FOUND"}.ToGrpc();
  return Add(request->session_id(), *position, response);
}

grpc::Status FakeServer::GetModel(grpc::ServerContext*, const v1::GetModelRequest* request,
                                  v1::Model* response) {
  std::lock_guard lock(mutex_);
  response->set_name(request->name());
  response->set_vocab_size(512);
  response->set_has_tokenizer(has_tokenizer_);
  return grpc::Status::OK;
}

grpc::Status FakeServer::ListModels(grpc::ServerContext*, const v1::ListModelsRequest*,
                                    v1::ListModelsResponse* response) {
  v1::GetModelRequest the_only_one;
  the_only_one.set_name("models/fake");
  return GetModel(nullptr, &the_only_one, response->add_models());
}

grpc::Status FakeServer::GetServerInfo(grpc::ServerContext*, const v1::GetServerInfoRequest*,
                                       v1::ServerInfo* response) {
  if (auto failure = Enter()) return *failure;
  response->set_version("0.1.0");
  response->set_device("cpu");
  return grpc::Status::OK;
}

}  // namespace mambad::testing
