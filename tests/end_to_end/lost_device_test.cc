// `mambad serve` when its GPU fails or stops answering: every stream has its status, health says NOT_SERVING
// at once, and the process ends with 3.
#include <atomic>
#include <chrono>
#include <string>
#include <thread>
#include <vector>

#include "grpc/health/v1/health.grpc.pb.h"
#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "tests/support/server_process.h"

namespace mambad::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kStreams = 4;
constexpr int kExitDeviceLost = 3;
constexpr std::chrono::seconds kPatience{30};

// What a client of health's Watch sees, on a thread of its own.
class HealthWatch {
 public:
  explicit HealthWatch(const std::shared_ptr<grpc::Channel>& channel)
      : stub_(grpc::health::v1::Health::NewStub(channel)), thread_([this] { Run(); }) {}

  // The server has ended: so has the watch.
  Clock::time_point NotServingAt() {
    thread_.join();
    return not_serving_at_;
  }

 private:
  void Run() {
    const auto reader = stub_->Watch(&context_, {});
    grpc::health::v1::HealthCheckResponse response;
    while (reader->Read(&response)) {
      if (response.status() != grpc::health::v1::HealthCheckResponse::NOT_SERVING) continue;
      if (not_serving_at_ == Clock::time_point::max()) not_serving_at_ = Clock::now();
    }
    reader->Finish();
  }

  grpc::ClientContext context_;
  std::unique_ptr<grpc::health::v1::Health::Stub> stub_;
  Clock::time_point not_serving_at_ = Clock::time_point::max();
  std::thread thread_;
};

// One stream without an end, from its first event to its status.
grpc::Status ReadEndlessStream(const std::shared_ptr<grpc::Channel>& channel) {
  const auto stub = v1::GenerationService::NewStub(channel);
  grpc::ClientContext context;
  v1::GenerateRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  request.mutable_stop()->set_max_output_tokens(1u << 30);
  request.mutable_stop()->set_ignore_eos(true);
  const auto reader = stub->StreamGenerate(&context, request);
  v1::StreamGenerateResponse response;
  while (reader->Read(&response)) {
  }
  return reader->Finish();
}

// Of the device before it is lost: late enough that a machine under load has begun every stream.
constexpr char kCalls[] = "20000";

class LostDeviceTest : public ::testing::TestWithParam<const char*> {};

TEST_P(LostDeviceTest, EveryStreamHasItsStatusAndTheProcessEndsWith3) {
  ServerProcess server(ServerProcess::Program{{MAMBAD_BINARY_DIR "/fake_gpu_server", GetParam(), kCalls}});
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  const auto channel = grpc::CreateChannel(server.grpc_address(), grpc::InsecureChannelCredentials());
  HealthWatch watch(channel);
  std::vector<grpc::Status> statuses(kStreams);
  std::vector<std::thread> streams;
  for (int i = 0; i < kStreams; ++i) {
    streams.emplace_back([&, i] { statuses[i] = ReadEndlessStream(channel); });
  }
  for (std::thread& stream : streams) stream.join();
  const Clock::time_point ended = Clock::now();
  EXPECT_EQ(server.process().Wait(kPatience), kExitDeviceLost) << server.process().Errors();
  EXPECT_LT(watch.NotServingAt() - ended, std::chrono::seconds(1));
  for (const grpc::Status& status : statuses) {
    EXPECT_EQ(status.error_code(), grpc::StatusCode::INTERNAL) << status.error_message();
    EXPECT_EQ(status.error_message(), "the device was lost");
  }
  EXPECT_NE(server.process().Errors().find("the device was lost"), std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(, LostDeviceTest, ::testing::Values("fail", "hang"),
                         [](const auto& info) { return std::string(info.param); });

}  // namespace
}  // namespace mambad::testing
