// A server on a GPU that fails at any call: every call ends with one status, and the server says what it is.
#include <atomic>
#include <string>
#include <thread>
#include <vector>

#include "absl/time/clock.h"
#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/fake_gpu_serving.h"
#include "tests/support/in_process_server.h"

namespace mambad::testing {
namespace {

constexpr int kStreams = 3;
constexpr uint32_t kTokens = 3;

v1::GenerateRequest Request(uint32_t prompt, const std::string& session = "") {
  v1::GenerateRequest request;
  for (uint32_t i = 0; i < prompt; ++i) request.mutable_prompt()->mutable_token_ids()->add_ids(1 + i);
  request.mutable_stop()->set_max_output_tokens(kTokens);
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_sampling()->set_seed(7);
  request.mutable_output()->set_token_ids(true);
  request.set_session(session);
  return request;
}

void ExpectWholeOrDeviceLost(const grpc::Status& status) {
  if (status.ok()) return;
  EXPECT_TRUE(status.error_code() == grpc::StatusCode::INTERNAL ||
              status.error_code() == grpc::StatusCode::UNAVAILABLE)
      << status.error_message();
  EXPECT_EQ(DetailsOf(status).reason, "DEVICE_LOST") << status.error_message();
}

grpc::Status CreateSession(InProcessServer& server, const std::string& id) {
  grpc::ClientContext context;
  v1::CreateSessionRequest request;
  request.set_session_id(id);
  v1::Session session;
  return server.sessions().CreateSession(&context, request, &session);
}

bool IsServing(const InProcessServer& server) {
  const auto health = grpc::health::v1::Health::NewStub(server.channel());
  grpc::ClientContext context;
  grpc::health::v1::HealthCheckResponse response;
  EXPECT_TRUE(health->Check(&context, {}, &response).ok());
  return response.status() == grpc::health::v1::HealthCheckResponse::SERVING;
}

// Calls of every kind at once; each gets its status.
void Use(InProcessServer& server) {
  ExpectWholeOrDeviceLost(CreateSession(server, "a"));
  std::vector<std::thread> clients;
  for (uint32_t i = 0; i < kStreams; ++i) {
    clients.emplace_back([&server, i] {
      const Streamed streamed = ReadStream(server.generation(), Request(1 + i));
      ExpectWholeOrDeviceLost(streamed.status);
      const size_t tokens = streamed.candidates[0].token_ids.size();
      EXPECT_TRUE(streamed.status.ok() ? tokens == kTokens : tokens <= kTokens);
    });
  }
  clients.emplace_back([&server] {
    grpc::ClientContext context;
    v1::GenerateResponse response;
    const grpc::Status status = server.generation().Generate(&context, Request(2, "sessions/a"), &response);
    if (status.error_code() != grpc::StatusCode::NOT_FOUND) ExpectWholeOrDeviceLost(status);
  });
  for (std::thread& client : clients) client.join();
}

void ExpectLost(InProcessServer& server) {
  EXPECT_FALSE(server.engine().healthy(absl::Now()));
  server.server().MarkUnhealthy();
  EXPECT_FALSE(IsServing(server));
  EXPECT_EQ(server.Get("/healthz").status, 503);
  EXPECT_EQ(server.Get("/readyz").status, 503);
  for (const grpc::Status& late :
       {CreateSession(server, "late"), ReadStream(server.generation(), Request(1)).status}) {
    EXPECT_EQ(late.error_code(), grpc::StatusCode::UNAVAILABLE);
    EXPECT_EQ(DetailsOf(late).reason, "DEVICE_LOST");
  }
  const EngineStats stats = server.engine().Stats();
  uint64_t finished = 0;
  for (const auto& by_code : stats.requests_finished) {
    for (const uint64_t count : by_code) finished += count;
  }
  EXPECT_EQ(stats.requests_accepted, finished);
  EXPECT_EQ(stats.requests_running + stats.requests_waiting, 0u);
}

// Whether the `call`-th call of a server's life failed: calls that follow only its end do not count.
bool FailsAt(uint64_t call, OracleModel::Ahead ahead) {
  Gpu() = FakeGpu();
  const absl::StatusOr<std::shared_ptr<const Serving>> serving =
      MakeFakeGpuServing({.state_slots = 4, .prompt_tokens_per_pass = 4, .seed = 1}, ahead);
  EXPECT_TRUE(serving.ok());
  Gpu().fail_from = Gpu().calls + call;
  (*serving)->engine->Start();
  InProcessServer server(*serving);
  Use(server);
  if (!GpuHasFailed()) return false;
  // The call may follow the last answer: the engine knows before the next one.
  EXPECT_FALSE(ReadStream(server.generation(), Request(1)).status.ok());
  ExpectLost(server);
  return true;
}

using DeviceFaultServerTest = ::testing::TestWithParam<OracleModel::Ahead>;

TEST_P(DeviceFaultServerTest, AFailureAtAnyCallGivesEveryCallOneStatus) {
  uint64_t failed = 0;
  for (uint64_t call = 1; FailsAt(call, GetParam()); ++call) {
    SCOPED_TRACE("call " + std::to_string(call));
    ++failed;
    if (HasFailure()) return;
  }
  EXPECT_GT(failed, 30u);
  EXPECT_EQ(Gpu().outstanding, 0);
  std::printf("%llu calls failed in turn\n", static_cast<unsigned long long>(failed));
}

TEST_P(DeviceFaultServerTest, AHangGivesEveryCallOneStatus) {
  Gpu() = FakeGpu();
  constexpr uint64_t kSomewhereInAStream = 40;
  const absl::StatusOr<std::shared_ptr<const Serving>> serving =
      MakeFakeGpuServing({.state_slots = 4, .prompt_tokens_per_pass = 4, .seed = 1}, GetParam());
  ASSERT_TRUE(serving.ok());
  Engine& engine = *(*serving)->engine;
  Gpu().hang_from = Gpu().calls + kSomewhereInAStream;
  engine.Start();
  InProcessServer server(*serving);
  std::thread clients([&] { Use(server); });
  while (!GpuHangs()) std::this_thread::yield();
  EXPECT_TRUE(IsServing(server));
  EXPECT_FALSE(engine.healthy(absl::Now() + engine.options().device_timeout + absl::Seconds(1)));
  server.server().MarkUnhealthy();
  clients.join();
  ExpectLost(server);
  EndGpuHang(0);
}

INSTANTIATE_TEST_SUITE_P(Ahead, DeviceFaultServerTest,
                         ::testing::Values(OracleModel::Ahead::kNo, OracleModel::Ahead::kEarly,
                                           OracleModel::Ahead::kLate));

}  // namespace
}  // namespace mambad::testing
