// Sessions over real gRPC on the bundled model: a session, its twin and a fork taken before each turn say the
// same, whatever else runs; everything refused changes nothing.
#include "server/session_service.h"

#include <cstdio>
#include <functional>
#include <iterator>
#include <map>
#include <memory>
#include <random>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/support/in_process_server.h"

namespace mambad::testing {
namespace {

constexpr int kOperations = 200;
constexpr int kOtherStreams = 24;

// Stateless streams that run until this is destroyed.
class OtherStreams {
 public:
  explicit OtherStreams(InProcessServer* server) {
    for (int i = 0; i < kOtherStreams; ++i) {
      contexts_.push_back(std::make_unique<grpc::ClientContext>());
      threads_.emplace_back([server, i, context = contexts_.back().get()] {
        v1::GenerateRequest request;
        request.mutable_prompt()->set_text("Noise " + std::to_string(i));
        request.mutable_stop()->set_max_output_tokens(1u << 30);
        request.mutable_stop()->set_ignore_eos(true);
        ReadStream(server->generation(), context, request);
      });
    }
  }
  ~OtherStreams() {
    for (const auto& context : contexts_) context->TryCancel();
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  std::vector<std::unique_ptr<grpc::ClientContext>> contexts_;
  std::vector<std::thread> threads_;
};

class SessionServiceTest : public ::testing::Test {
 protected:
  SessionServiceTest() {
    EngineOptions options;
    options.state_slots = 96;
    options.sessions_max = 60;
    server_ = std::make_unique<InProcessServer>("deploy/models/mamba-tales", options);
  }

  v1::Session Create(const std::string& id) {
    grpc::ClientContext context;
    v1::CreateSessionRequest request;
    request.set_session_id(id);
    v1::Session session;
    const grpc::Status status = server_->sessions().CreateSession(&context, request, &session);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return session;
  }
  v1::Session Get(const std::string& id) {
    grpc::ClientContext context;
    v1::GetSessionRequest request;
    request.set_name("sessions/" + id);
    v1::Session session;
    const grpc::Status status = server_->sessions().GetSession(&context, request, &session);
    EXPECT_TRUE(status.ok()) << status.error_message();
    return session;
  }
  grpc::Status Fork(const std::string& source, const std::string& id) {
    grpc::ClientContext context;
    v1::ForkSessionRequest request;
    request.set_name("sessions/" + source);
    request.set_session_id(id);
    v1::Session session;
    return server_->sessions().ForkSession(&context, request, &session);
  }
  grpc::Status Delete(const std::string& id, const std::string& etag = "") {
    grpc::ClientContext context;
    v1::DeleteSessionRequest request;
    request.set_name("sessions/" + id);
    request.set_etag(etag);
    google::protobuf::Empty empty;
    return server_->sessions().DeleteSession(&context, request, &empty);
  }
  grpc::Status Append(const std::string& id, const std::string& text, v1::AppendInputResponse* response) {
    grpc::ClientContext context;
    v1::AppendInputRequest request;
    request.set_name("sessions/" + id);
    request.mutable_prompt()->set_text(text);
    return server_->sessions().AppendInput(&context, request, response);
  }
  static v1::GenerateRequest Turn(const std::string& id, const std::string& text, uint32_t tokens,
                                  uint64_t seed) {
    v1::GenerateRequest request;
    request.set_session("sessions/" + id);
    if (!text.empty()) request.mutable_prompt()->set_text(text);
    request.mutable_stop()->set_max_output_tokens(tokens);
    request.mutable_stop()->set_ignore_eos(true);
    request.mutable_sampling()->set_seed(seed);
    request.mutable_output()->set_token_ids(true);
    request.mutable_output()->set_logprobs(true);
    return request;
  }
  Streamed Run(const v1::GenerateRequest& request) { return ReadStream(server_->generation(), request); }

  // Tokens and the exact bits of their log-probabilities: equal only from equal states.
  static std::string Fingerprint(const Streamed& streamed) {
    std::string print;
    for (const v1::TokenLogprob& logprob : streamed.candidates[0].logprobs)
      print += logprob.SerializeAsString();
    return print;
  }

  std::unique_ptr<InProcessServer> server_;
};

// What the server must know of a session, kept by the test.
struct Expected {
  uint64_t position = 0;
};

TEST_F(SessionServiceTest, RandomOperationsKeepSessionTwinAndForkEqual) {
  std::mt19937 random(20260101);
  const auto pick = [&](uint32_t n) { return random() % n; };
  std::map<std::string, Expected> expected;  // session and twin alike
  std::map<std::string, int> counts;
  int next_id = 0;
  std::unique_ptr<OtherStreams> others;

  const auto create = [&] {
    const std::string id = "s" + std::to_string(next_id++);
    Create(id);
    Create(id + ".twin");
    expected[id] = {};
    ++counts["create"];
  };
  const auto any = [&] {
    auto it = expected.begin();
    std::advance(it, pick(static_cast<uint32_t>(expected.size())));
    return it->first;
  };
  const auto check_position = [&](const std::string& id) {
    EXPECT_EQ(Get(id).position(), expected[id].position) << id;
    EXPECT_EQ(Get(id + ".twin").position(), expected[id].position) << id;
  };
  const auto turn = [&](const std::string& id) {
    const uint32_t tokens = 1 + pick(3);
    const uint64_t seed = random();
    const std::string text = expected[id].position > 0 && pick(4) == 0 ? "" : "Then the king spoke. ";
    ASSERT_TRUE(Fork(id, "fork").ok());
    const Streamed own = Run(Turn(id, text, tokens, seed));
    const Streamed twin = Run(Turn(id + ".twin", text, tokens, seed));
    const Streamed fork = Run(Turn("fork", text, tokens, seed));
    ASSERT_TRUE(own.status.ok()) << own.status.error_message();
    ASSERT_EQ(own.candidates[0].logprobs.size(), tokens);
    EXPECT_EQ(Fingerprint(own), Fingerprint(twin)) << id;
    EXPECT_EQ(Fingerprint(own), Fingerprint(fork)) << id;
    EXPECT_TRUE(Delete("fork").ok());
    const v1::Usage& usage = own.candidates[0].finished.usage();
    expected[id].position += usage.input_tokens() + tokens;
    EXPECT_EQ(usage.session_position(), expected[id].position);
    ++counts["turn"];
  };
  const auto append = [&](const std::string& id) {
    v1::AppendInputResponse own;
    v1::AppendInputResponse twin;
    ASSERT_TRUE(Append(id, "And so on. ", &own).ok());
    ASSERT_TRUE(Append(id + ".twin", "And so on. ", &twin).ok());
    expected[id].position += own.usage().input_tokens();
    EXPECT_EQ(own.session().position(), expected[id].position);
    ++counts["append"];
  };
  const auto fork_becomes_session = [&](const std::string& id) {
    const std::string copy = "s" + std::to_string(next_id++);
    ASSERT_TRUE(Fork(id, copy).ok());
    ASSERT_TRUE(Fork(id + ".twin", copy + ".twin").ok());
    expected[copy] = expected[id];
    ++counts["fork"];
  };
  const auto remove = [&](const std::string& id) {
    ASSERT_TRUE(Delete(id).ok());
    ASSERT_TRUE(Delete(id + ".twin").ok());
    EXPECT_EQ(Delete(id).error_code(), grpc::StatusCode::NOT_FOUND);
    expected.erase(id);
    ++counts["delete"];
  };
  const auto refused = [&](const std::string& id) {
    v1::GenerateRequest wrong = Turn(id, "x", 2, 1);
    wrong.set_expect_position(expected[id].position + 1);
    const Streamed mismatch = Run(wrong);
    EXPECT_EQ(mismatch.status.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(DetailsOf(mismatch.status).reason, "POSITION_MISMATCH");
    EXPECT_EQ(DetailsOf(mismatch.status).metadata["position"], std::to_string(expected[id].position));
    EXPECT_EQ(Run(Turn("unknown", "x", 2, 1)).status.error_code(), grpc::StatusCode::NOT_FOUND);
    EXPECT_EQ(Fork(id, id).error_code(), grpc::StatusCode::ALREADY_EXISTS);
    EXPECT_EQ(Delete(id, "stale").error_code(), grpc::StatusCode::ABORTED);
    ++counts["refused"];
  };
  // A cancelled turn keeps exactly the tokens that it emitted; the twin is taken anew from the session.
  const auto cancelled = [&](const std::string& id) {
    grpc::ClientContext context;
    const auto reader = server_->generation().StreamGenerate(&context, Turn(id, "Stop. ", 1u << 30, 5));
    v1::StreamGenerateResponse response;
    uint64_t seen = 0;
    while (seen == 0 && reader->Read(&response)) seen += response.delta().token_ids_size();
    // Another request on the running session is refused and changes nothing.
    const Streamed busy = Run(Turn(id, "x", 1, 1));
    EXPECT_EQ(busy.status.error_code(), grpc::StatusCode::ABORTED);
    EXPECT_EQ(DetailsOf(busy.status).reason, "SESSION_BUSY");
    context.TryCancel();
    while (reader->Read(&response)) seen += response.delta().token_ids_size();
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
    const absl::Time give_up = absl::Now() + absl::Seconds(10);
    v1::Session session;
    do {
      session = Get(id);
    } while (session.state() != v1::Session::IDLE && absl::Now() < give_up);
    EXPECT_EQ(session.state(), v1::Session::IDLE);
    EXPECT_GE(session.position(), expected[id].position + seen);
    expected[id].position = session.position();
    ASSERT_TRUE(Delete(id + ".twin").ok());
    ASSERT_TRUE(Fork(id, id + ".twin").ok());
    ++counts["cancelled"];
  };

  for (int i = 0; i < 3; ++i) create();
  for (int operation = 0; operation < kOperations && !HasFatalFailure(); ++operation) {
    // Alone for half of them, among other streams for the rest.
    if (operation == kOperations / 2) others = std::make_unique<OtherStreams>(server_.get());
    const uint32_t dice = pick(20);
    if (expected.empty() || (dice < 2 && expected.size() < 8)) {
      create();
    } else if (dice < 10) {
      turn(any());
    } else if (dice < 12) {
      append(any());
    } else if (dice < 14 && expected.size() < 8) {
      fork_becomes_session(any());
    } else if (dice < 15) {
      remove(any());
    } else if (dice < 18) {
      refused(any());
    } else {
      cancelled(any());
    }
    if (!expected.empty()) check_position(any());
  }
  others.reset();
  std::string summary;
  for (const auto& [name, count] : counts) summary += name + " " + std::to_string(count) + "  ";
  std::printf("%d operations: %s\n", kOperations, summary.c_str());
  EXPECT_GE(counts["turn"], 30);
  while (!expected.empty() && !HasFatalFailure()) remove(expected.begin()->first);
  EXPECT_EQ(server_->engine().Stats().state_slots_used, 0u);
}

TEST_F(SessionServiceTest, ListsInOrderAndByPages) {
  for (const char* id : {"b", "a", "d", "c", "e"}) Create(id);
  std::vector<std::string> names;
  std::string token;
  int pages = 0;
  do {
    grpc::ClientContext context;
    v1::ListSessionsRequest request;
    request.set_page_size(2);
    request.set_page_token(token);
    v1::ListSessionsResponse page;
    ASSERT_TRUE(server_->sessions().ListSessions(&context, request, &page).ok());
    EXPECT_LE(page.sessions_size(), 2);
    for (const v1::Session& session : page.sessions()) names.push_back(session.name());
    token = page.next_page_token();
    ++pages;
  } while (!token.empty() && pages < 10);
  EXPECT_EQ(names,
            (std::vector<std::string>{"sessions/a", "sessions/b", "sessions/c", "sessions/d", "sessions/e"}));
}

TEST_F(SessionServiceTest, NamesTheFieldThatIsOutOfItsRange) {
  const auto create = [&](const std::function<void(v1::CreateSessionRequest*)>& edit) {
    grpc::ClientContext context;
    v1::CreateSessionRequest request;
    edit(&request);
    v1::Session session;
    return server_->sessions().CreateSession(&context, request, &session);
  };
  using Edit = std::function<void(v1::CreateSessionRequest*)>;
  const std::vector<std::pair<std::string, Edit>> cases = {
      {"session_id", [](auto* r) { r->set_session_id("Upper"); }},
      {"session_id", [](auto* r) { r->set_session_id("-a"); }},
      {"session_id", [](auto* r) { r->set_session_id(std::string(129, 'a')); }},
      {"session.ttl", [](auto* r) { r->mutable_session()->mutable_ttl()->set_seconds(0); }},
      {"session.ttl", [](auto* r) { r->mutable_session()->mutable_ttl()->set_seconds(366 * 86400); }},
      {"session.state_seed", [](auto* r) { r->mutable_session()->set_state_seed(1); }},
      {"session.labels", [](auto* r) { (*r->mutable_session()->mutable_labels())[""] = "x"; }},
      {"session.labels",
       [](auto* r) { (*r->mutable_session()->mutable_labels())[std::string(64, 'k')] = "x"; }},
      {"session.labels",
       [](auto* r) { (*r->mutable_session()->mutable_labels())["k"] = std::string(64, 'v'); }},
      {"session.labels",
       [](auto* r) {
         for (int i = 0; i < 33; ++i)
           (*r->mutable_session()->mutable_labels())["k" + std::to_string(i)] = "v";
       }},
  };
  for (const auto& [field, edit] : cases) {
    const grpc::Status status = create(edit);
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INVALID_ARGUMENT) << field;
    EXPECT_EQ(DetailsOf(status).fields, std::vector<std::string>{field}) << status.error_message();
  }
}

TEST_F(SessionServiceTest, SaysNoFreeSlotWithRetryInfo) {
  grpc::Status status;
  int created = 0;
  do {
    grpc::ClientContext context;
    v1::Session session;
    status = server_->sessions().CreateSession(&context, v1::CreateSessionRequest(), &session);
  } while (status.ok() && ++created < 200);
  EXPECT_EQ(created, 60);
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
  EXPECT_EQ(DetailsOf(status).reason, "NO_FREE_SLOT");
  EXPECT_TRUE(DetailsOf(status).has_retry_info);
}

}  // namespace
}  // namespace mambad::testing
