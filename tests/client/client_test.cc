#include "client/client.h"

#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"

namespace mambad {
namespace {

using testing::FakeServer;
using testing::kFirstToken;
using testing::RichStatus;
using testing::TextOfTokens;

const RichStatus kGone = {.code = grpc::StatusCode::UNAVAILABLE, .message = "gone"};
const RichStatus kFull = {.code = grpc::StatusCode::RESOURCE_EXHAUSTED,
                          .message = "the queue is full",
                          .reason = "QUEUE_FULL",
                          .retry_after = absl::Milliseconds(1)};

class ClientTest : public ::testing::Test {
 protected:
  ClientTest() : client_(*Client::Connect(server_.address())) {
    quick_.retry.initial_backoff = absl::Milliseconds(1);
  }

  static v1::GenerateRequest Request(uint32_t tokens = 5) {
    v1::GenerateRequest request;
    *request.mutable_prompt() = TextPrompt("once upon a time");
    request.mutable_stop()->set_max_output_tokens(tokens);
    return request;
  }

  static std::string ReadText(GenerateStream& stream) {
    std::string text;
    for (const auto& event : stream) text += event.delta().text();
    return text;
  }

  FakeServer server_;
  Client client_;
  CallOptions quick_;
};

TEST_F(ClientTest, StreamsEventsAsARange) {
  std::vector<v1::StreamGenerateResponse::EventCase> kinds;
  std::string text;
  GenerateStream stream = client_.StreamGenerate(Request(3));
  for (const auto& event : stream) {
    kinds.push_back(event.event_case());
    text += event.delta().text();
  }
  EXPECT_TRUE(stream.status().ok()) << stream.status();
  EXPECT_EQ(text, TextOfTokens(3));
  using Event = v1::StreamGenerateResponse;
  EXPECT_EQ(kinds,
            (std::vector{Event::kStarted, Event::kDelta, Event::kDelta, Event::kDelta, Event::kFinished}));
  EXPECT_EQ(stream.Next(), nullptr) << "the end stays the end";
}

TEST_F(ClientTest, GeneratesInOneAnswer) {
  const auto response = client_.Generate(Request(4));
  ASSERT_TRUE(response.ok()) << response.status();
  EXPECT_EQ(response->candidates(0).text(), TextOfTokens(4));
  EXPECT_EQ(response->usage().input_tokens(), 4U);
}

TEST_F(ClientTest, AStreamOutlivesTheClientThatMadeIt) {
  auto client = Client::Connect(server_.address());
  GenerateStream stream = client->StreamGenerate(Request(2));
  client = absl::CancelledError();
  EXPECT_EQ(ReadText(stream), TextOfTokens(2));
}

TEST_F(ClientTest, CancelFromAnotherThreadEndsAStalledStream) {
  server_.StallAfter(2);
  GenerateStream stream = client_.StreamGenerate(Request());
  std::string text;
  std::thread canceller;
  for (const auto& event : stream) {
    text += event.delta().text();
    if (text == TextOfTokens(2)) canceller = std::thread([&] { stream.Cancel(); });
  }
  canceller.join();
  EXPECT_EQ(text, TextOfTokens(2));
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kCancelled);
}

TEST_F(ClientTest, CancelEndsTheWaitBetweenAttempts) {
  server_.FailNext({kGone});
  CallOptions patient;
  patient.retry.initial_backoff = patient.retry.max_backoff = absl::Hours(1);
  GenerateStream stream = client_.StreamGenerate(Request(), patient);
  std::thread canceller([&] { stream.Cancel(); });
  EXPECT_EQ(stream.Next(), nullptr);
  canceller.join();
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kCancelled);
  EXPECT_LE(server_.calls(), 1);
}

TEST_F(ClientTest, ADroppedStreamIsCancelled) {
  server_.StallAfter(1);
  {
    GenerateStream stream = client_.StreamGenerate(Request());
    ASSERT_NE(stream.Next(), nullptr);
  }
  while (server_.cancelled_streams() == 0) std::this_thread::yield();
  EXPECT_EQ(server_.cancelled_streams(), 1);
}

TEST_F(ClientTest, TheDeadlineEndsAStalledStream) {
  server_.StallAfter(2);
  GenerateStream stream = client_.StreamGenerate(Request(), {.timeout = absl::Milliseconds(200)});
  EXPECT_EQ(ReadText(stream), TextOfTokens(2));
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kDeadlineExceeded);
}

TEST_F(ClientTest, AStreamIsRetriedBeforeItsFirstEvent) {
  server_.FailNext({kGone, kFull});
  GenerateStream stream = client_.StreamGenerate(Request(3), quick_);
  EXPECT_EQ(ReadText(stream), TextOfTokens(3));
  EXPECT_TRUE(stream.status().ok()) << stream.status();
  EXPECT_EQ(server_.calls(), 3);
}

TEST_F(ClientTest, AStreamIsNeverRetriedAfterAToken) {
  server_.FailAfter(2, kGone);
  GenerateStream stream = client_.StreamGenerate(Request(), quick_);
  EXPECT_EQ(ReadText(stream), TextOfTokens(2));
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server_.calls(), 1);
}

TEST_F(ClientTest, RetriesAreBounded) {
  server_.FailNext({10, kGone});
  GenerateStream stream = client_.StreamGenerate(Request(), quick_);
  EXPECT_EQ(ReadText(stream), "");
  EXPECT_EQ(stream.status().code(), absl::StatusCode::kUnavailable);
  EXPECT_EQ(server_.calls(), quick_.retry.max_attempts);
}

TEST_F(ClientTest, ATurnIsRetriedOnlyWhenItNamesItsPosition) {
  v1::GenerateRequest turn = Request();
  turn.set_session("sessions/a");
  server_.FailNext({kFull});
  EXPECT_EQ(client_.Generate(turn, quick_).status().code(), absl::StatusCode::kResourceExhausted);
  EXPECT_EQ(server_.calls(), 1);

  turn.set_expect_position(0);
  server_.FailNext({kFull});
  EXPECT_TRUE(client_.Generate(turn, quick_).ok());
  EXPECT_EQ(server_.calls(), 3);

  v1::AppendInputRequest append;
  append.set_name("sessions/a");
  server_.FailNext({kGone});
  EXPECT_EQ(client_.AppendInput(append, quick_).status().code(), absl::StatusCode::kUnavailable);
}

TEST_F(ClientTest, ACreationIsRepeatedOnlyAfterARefusal) {
  server_.FailNext({kGone});
  EXPECT_FALSE(client_.CreateSession({}, quick_).ok());
  server_.FailNext({kFull});
  EXPECT_TRUE(client_.CreateSession({}, quick_).ok());
  EXPECT_EQ(server_.calls(), 3);
}

TEST_F(ClientTest, ErrorsCarryTheServersDetails) {
  server_.FailNext({{.code = grpc::StatusCode::ABORTED,
                     .message = "expect_position is not the session's position",
                     .reason = "POSITION_MISMATCH",
                     .field = "expect_position",
                     .metadata = {{"position", "17"}},
                     .retry_after = absl::Milliseconds(1500)}});
  const absl::Status status = client_.Generate(Request()).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kAborted);
  EXPECT_EQ(status.message(), "expect_position is not the session's position");
  const ErrorDetails details = DetailsOf(status);
  EXPECT_EQ(details.reason, "POSITION_MISMATCH");
  EXPECT_EQ(details.domain, "mambad");
  EXPECT_EQ(details.metadata.at("position"), "17");
  ASSERT_EQ(details.violations.size(), 1U);
  EXPECT_EQ(details.violations[0].field, "expect_position");
  EXPECT_EQ(details.retry_after, absl::Milliseconds(1500));
}

TEST_F(ClientTest, AStatusWithoutDetailsHasEmptyOnes) {
  const ErrorDetails details = DetailsOf(absl::InternalError("x"));
  EXPECT_TRUE(details.reason.empty() && details.violations.empty() && !details.retry_after.has_value());
}

TEST_F(ClientTest, SpeaksTheSessionVerbs) {
  v1::CreateSessionRequest create;
  create.set_session_id("a");
  ASSERT_EQ(client_.CreateSession(create)->name(), "sessions/a");
  v1::AppendInputRequest append;
  append.set_name(SessionName("a"));
  *append.mutable_prompt() = TokenPrompt(std::vector<uint32_t>{1, 2, 3});
  EXPECT_EQ(client_.AppendInput(append)->usage().session_position(), 3U);
  v1::ForkSessionRequest fork;
  fork.set_name("sessions/a");
  fork.set_session_id("b");
  EXPECT_EQ(client_.ForkSession(fork)->position(), 3U);
  EXPECT_EQ(client_.GetSession("sessions/b")->position(), 3U);
  EXPECT_EQ(client_.ListSessions()->sessions_size(), 2);
  v1::DeleteSessionRequest erase;
  erase.set_name("sessions/b");
  EXPECT_TRUE(client_.DeleteSession(erase).ok());
  EXPECT_EQ(client_.DeleteSession(erase).code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, SaysWhetherTheServerServes) {
  EXPECT_EQ(client_.IsServing().value(), true);
  server_.SetServing(false);
  EXPECT_EQ(client_.IsServing().value(), false);
  EXPECT_EQ(client_.IsServing("no.such.Service").status().code(), absl::StatusCode::kNotFound);
}

TEST_F(ClientTest, FindsTheOnlyModel) { EXPECT_EQ(client_.GetModel()->name(), "models/fake"); }

TEST(ClientConnectTest, SaysAtOnceWhenNothingListens) {
  const absl::Time start = absl::Now();
  // Port 1 of the loopback interface: nothing listens there.
  const absl::Status status = Client::Connect("127.0.0.1:1", {.connect_timeout = absl::Seconds(30)}).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kUnavailable) << status;
  EXPECT_LT(absl::Now() - start, absl::Seconds(20));
  EXPECT_EQ(Client::Connect("").status().code(), absl::StatusCode::kInvalidArgument);
}

TEST(ClientConnectTest, WaitsNoLongerThanItsTimeout) {
  EXPECT_EQ(
      Client::Connect("127.0.0.1:1", {.connect_timeout = absl::Milliseconds(50), .wait_for_server = true})
          .status()
          .code(),
      absl::StatusCode::kUnavailable);
}

}  // namespace
}  // namespace mambad
