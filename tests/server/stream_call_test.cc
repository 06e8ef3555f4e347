// The reactors of Generate, StreamGenerate and Score over real gRPC, on an engine that the test plays.
#include "server/stream_call.h"

#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "engine/error.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"
#include "tests/support/in_process_server.h"

namespace mambad::testing {
namespace {

constexpr RequestLimits kLimits{.vocab_size = 1000, .state_slots = 8, .prompt_tokens_max = 100000};

class StreamCallTest : public ::testing::Test {
 protected:
  StreamCallTest() {
    auto serving = std::make_shared<Serving>();
    serving->model_id = "test-model";
    auto engine = std::make_unique<FakeEngine>(kLimits);
    engine_ = engine.get();
    serving->engine = std::move(engine);
    server_ = std::make_unique<InProcessServer>(std::move(serving));
  }

  static v1::GenerateRequest Request(uint32_t candidates = 1) {
    v1::GenerateRequest request;
    request.mutable_prompt()->mutable_token_ids()->add_ids(1);
    request.set_candidate_count(candidates);
    return request;
  }
  static DeltaEvent Delta(std::vector<uint32_t> ids, uint32_t candidate = 0) {
    return {.candidate_index = candidate, .text = "", .token_ids = std::move(ids)};
  }
  static EndEvent End(absl::Status status = absl::OkStatus()) { return {.status = std::move(status)}; }

  // Waits, as an engine does, for room in the ring.
  static void PushDelta(TokenSink* sink, std::vector<uint32_t> ids) {
    while (!sink->HasRoom(1)) std::this_thread::yield();
    sink->Push(Delta(std::move(ids)));
  }

  FakeEngine* engine_ = nullptr;
  std::unique_ptr<InProcessServer> server_;
};

TEST_F(StreamCallTest, DeliversEveryTokenOnceAndInOrderAndFinishesOnce) {
  Streamed streamed;
  std::thread client([&] { streamed = ReadStream(server_->generation(), Request()); });
  const auto [request, sink] = engine_->WaitForRequest(0);
  EXPECT_FALSE(request.request_id.empty());
  EXPECT_NE(request.arrival, absl::InfinitePast());
  sink->Push(StartedEvent{.seed = 42});
  constexpr uint32_t kTokens = 20000;
  for (uint32_t i = 0; i < kTokens; ++i) PushDelta(sink.get(), {i % 1000});
  sink->Push(FinishedEvent{.reason = FinishReason::kLength, .usage = {.output_tokens = kTokens}});
  sink->Push(End());
  client.join();
  EXPECT_TRUE(streamed.status.ok()) << streamed.status.error_message();
  EXPECT_EQ(streamed.started_count, 1);
  EXPECT_EQ(streamed.started.seed(), 42u);
  EXPECT_EQ(streamed.started.request_id(), request.request_id);
  const Streamed::Candidate& candidate = streamed.candidates[0];
  ASSERT_EQ(candidate.token_ids.size(), kTokens);
  for (uint32_t i = 0; i < kTokens; ++i) ASSERT_EQ(candidate.token_ids[i], i % 1000);
  EXPECT_EQ(candidate.finished_count, 1);
  EXPECT_EQ(candidate.finished.finish_reason(), v1::LENGTH);
  EXPECT_EQ(candidate.finished.usage().output_tokens(), kTokens);
  EXPECT_EQ(engine_->first_tokens(), 1u);
}

TEST_F(StreamCallTest, KeepsCandidatesApart) {
  Streamed streamed;
  std::thread client([&] { streamed = ReadStream(server_->generation(), Request(3)); });
  const auto [request, sink] = engine_->WaitForRequest(0);
  for (uint32_t i = 0; i < 30; ++i) sink->Push(Delta({100 * (i % 3) + i / 3}, i % 3));
  for (uint32_t c = 0; c < 3; ++c) sink->Push(FinishedEvent{.candidate_index = c});
  sink->Push(End());
  client.join();
  for (uint32_t c = 0; c < 3; ++c) {
    ASSERT_EQ(streamed.candidates[c].token_ids.size(), 10u);
    for (uint32_t i = 0; i < 10; ++i) EXPECT_EQ(streamed.candidates[c].token_ids[i], 100 * c + i);
    EXPECT_EQ(streamed.candidates[c].finished_count, 1);
  }
}

TEST_F(StreamCallTest, AReaderThatDoesNotReadFillsTheRingAndLosesNothing) {
  grpc::ClientContext context;
  const auto reader = server_->generation().StreamGenerate(&context, Request());
  const auto [request, sink] = engine_->WaitForRequest(0);
  // Wide messages fill the transport's window soon; then the ring.
  const std::vector<uint32_t> wide(20000, 999);
  uint64_t pushed = 0;
  while (sink->HasRoom(1)) {
    sink->Push(Delta(wide));
    ++pushed;
  }
  sink->Push(FinishedEvent{});
  sink->Push(End());
  uint64_t tokens = 0;
  v1::StreamGenerateResponse response;
  while (reader->Read(&response)) tokens += response.delta().token_ids_size();
  EXPECT_TRUE(reader->Finish().ok());
  EXPECT_EQ(tokens, pushed * wide.size());
}

TEST_F(StreamCallTest, ACancelDuringAWriteEndsTheRequestAndTheCall) {
  for (int round = 0; round < 20; ++round) {
    auto context = std::make_unique<grpc::ClientContext>();
    auto reader = server_->generation().StreamGenerate(context.get(), Request());
    const auto [request, sink] = engine_->WaitForRequest(static_cast<size_t>(round));
    const std::vector<uint32_t> wide(20000, 999);
    while (sink->HasRoom(1)) sink->Push(Delta(wide));
    context->TryCancel();
    engine_->WaitForCancel(static_cast<size_t>(round));
    sink->Push(End(absl::CancelledError("cancelled")));
    EXPECT_EQ(reader->Finish().error_code(), grpc::StatusCode::CANCELLED);
  }
}

TEST_F(StreamCallTest, AnErrorComesWithItsDetails) {
  Streamed streamed;
  std::thread client([&] { streamed = ReadStream(server_->generation(), Request()); });
  const auto [request, sink] = engine_->WaitForRequest(0);
  sink->Push(End(MakeError(absl::StatusCode::kAborted, "expect_position is not the session's position",
                           {.reason = reason::kPositionMismatch,
                            .metadata = {{"position", "17"}},
                            .retry_after = absl::Milliseconds(1500)})));
  client.join();
  EXPECT_EQ(streamed.status.error_code(), grpc::StatusCode::ABORTED);
  const ErrorDetails details = DetailsOf(streamed.status);
  EXPECT_EQ(details.reason, "POSITION_MISMATCH");
  EXPECT_EQ(details.domain, "mambad");
  EXPECT_EQ(details.metadata.at("position"), "17");
  EXPECT_TRUE(details.has_retry_info);
}

TEST_F(StreamCallTest, ARefusalIsCountedAndNamesItsField) {
  v1::GenerateRequest request = Request();
  request.set_model("nonsense");
  const Streamed streamed = ReadStream(server_->generation(), request);
  EXPECT_EQ(streamed.status.error_code(), grpc::StatusCode::INVALID_ARGUMENT);
  EXPECT_EQ(DetailsOf(streamed.status).fields, std::vector<std::string>{"model"});
  EXPECT_EQ(engine_->rejections(), 1u);
}

TEST_F(StreamCallTest, UnaryCollectsWhatTheStreamWouldSay) {
  v1::GenerateResponse response;
  grpc::Status status;
  std::thread client([&] {
    grpc::ClientContext context;
    status = server_->generation().Generate(&context, Request(2), &response);
  });
  const auto [request, sink] = engine_->WaitForRequest(0);
  sink->Push(StartedEvent{.seed = 7});
  sink->Push(Delta({5}, 1));
  sink->Push(Delta({1, 2}, 0));
  sink->Push(Delta({3}, 0));
  sink->Push(FinishedEvent{.candidate_index = 0, .reason = FinishReason::kEos});
  sink->Push(FinishedEvent{.candidate_index = 1, .reason = FinishReason::kStopSequence, .matched_stop = "x"});
  sink->Push(EndEvent{.usage = {.input_tokens = 1, .output_tokens = 4}});
  client.join();
  ASSERT_TRUE(status.ok()) << status.error_message();
  EXPECT_EQ(response.seed(), 7u);
  ASSERT_EQ(response.candidates_size(), 2);
  EXPECT_EQ(response.candidates(0).token_ids_size(), 3);
  EXPECT_EQ(response.candidates(0).finish_reason(), v1::EOS);
  EXPECT_EQ(response.candidates(1).token_ids(0), 5u);
  EXPECT_EQ(response.candidates(1).matched_stop(), "x");
  EXPECT_EQ(response.usage().output_tokens(), 4u);
}

TEST_F(StreamCallTest, AUnaryAnswerBeyondTheMessageLimitIsRefusedAndStopsTheRequest) {
  grpc::Status status;
  std::thread client([&] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    status = server_->generation().Generate(&context, Request(), &response);
  });
  const auto [request, sink] = engine_->WaitForRequest(0);
  const std::vector<uint32_t> wide(100000, 999);
  while (engine_->cancels() == 0) {
    if (sink->HasRoom(1)) sink->Push(Delta(wide));
    std::this_thread::yield();
  }
  sink->Push(End(absl::CancelledError("cancelled")));
  client.join();
  EXPECT_EQ(status.error_code(), grpc::StatusCode::RESOURCE_EXHAUSTED);
}

TEST_F(StreamCallTest, SaysUnavailableWhileLoading) {
  InProcessServer loading;
  const Streamed streamed = ReadStream(loading.generation(), Request());
  EXPECT_EQ(streamed.status.error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(DetailsOf(streamed.status).reason, "LOADING");
  EXPECT_TRUE(DetailsOf(streamed.status).has_retry_info);
  EXPECT_EQ(loading.Get("/readyz").status, 503);
  EXPECT_EQ(loading.Get("/healthz").status, 200);
  EXPECT_NE(loading.Get("/metrics").body.find("mambad_build_info"), std::string::npos);
}

}  // namespace
}  // namespace mambad::testing
