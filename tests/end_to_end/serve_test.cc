// `mambad serve` as a process: ready line, signals, drain, exit codes.
#include <netinet/in.h>
#include <signal.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <memory>
#include <optional>
#include <regex>
#include <string>
#include <thread>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "tests/support/process.h"
#include "tests/support/server_process.h"
#include "tests/support/test_device.h"

namespace mambad::testing {
namespace {

constexpr std::chrono::seconds kPatience{60};

v1::GenerateRequest Request(uint32_t tokens) {
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("Once upon a time");
  request.mutable_stop()->set_max_output_tokens(tokens);
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

// One stream that has begun.
class OpenStream {
 public:
  OpenStream(const std::string& address, uint32_t tokens)
      : stub_(v1::GenerationService::NewStub(
            grpc::CreateChannel(address, grpc::InsecureChannelCredentials()))) {
    context_.set_wait_for_ready(true);  // gRPC 1.51's first connection fails now and then
    reader_ = stub_->StreamGenerate(&context_, Request(tokens));
    v1::StreamGenerateResponse response;
    started_ = reader_->Read(&response) && response.has_started();
    if (!started_) ADD_FAILURE() << reader_->Finish().error_message();
  }

  bool started() const { return started_; }
  size_t tokens() const { return tokens_; }
  bool finished() const { return finished_; }
  // Reads to the end.
  grpc::Status Finish() {
    v1::StreamGenerateResponse response;
    while (reader_->Read(&response)) {
      tokens_ += static_cast<size_t>(response.delta().token_ids_size());
      finished_ |= response.has_finished();
    }
    return reader_->Finish();
  }

 private:
  grpc::ClientContext context_;
  std::unique_ptr<v1::GenerationService::Stub> stub_;
  std::unique_ptr<grpc::ClientReader<v1::StreamGenerateResponse>> reader_;
  bool started_ = false;
  size_t tokens_ = 0;
  bool finished_ = false;
};

TEST(ServeTest, SaysWhenItIsReadyAndWhere) {
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  EXPECT_TRUE(std::regex_match(
      server.ready_line(),
      std::regex(
          R"(mambad ready grpc=127\.0\.0\.1:\d+ http=127\.0\.0\.1:\d+ model=models/mamba-tales device=)" +
          std::string(TestDeviceName()) + R"( slots=\d+)")))
      << server.ready_line();
  EXPECT_EQ(server.Stop(kPatience), 0);
  EXPECT_NE(server.process().Errors().find("\"user\":\"total\""), std::string::npos) << "no memory ledger";
}

TEST(ServeTest, SigtermUnderLoadLetsTheStreamEndWholeAndExitsWith0) {
  ServerProcess server({"--drain-timeout", "60"});
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  constexpr uint32_t kTokens = 400;
  OpenStream first(server.grpc_address(), kTokens);
  OpenStream second(server.grpc_address(), kTokens);
  ASSERT_TRUE(first.started() && second.started());
  server.process().Signal(SIGTERM);
  EXPECT_TRUE(first.Finish().ok());
  EXPECT_TRUE(second.Finish().ok());
  EXPECT_EQ(first.tokens(), kTokens);
  EXPECT_TRUE(first.finished());
  EXPECT_EQ(second.tokens(), kTokens);
  EXPECT_EQ(server.process().Wait(kPatience), 0) << server.process().Errors();
}

TEST(ServeTest, TheDrainTimeoutEndsWhatGoesOn) {
  ServerProcess server({"--drain-timeout", "0.2"});
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  OpenStream stream(server.grpc_address(), 1u << 30);
  ASSERT_TRUE(stream.started());
  server.process().Signal(SIGINT);
  EXPECT_EQ(stream.Finish().error_code(), grpc::StatusCode::UNAVAILABLE);
  EXPECT_EQ(server.process().Wait(kPatience), 0) << server.process().Errors();
}

TEST(ServeTest, ASecondSignalExitsAtOnce) {
  ServerProcess server({"--drain-timeout", "600"});
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  OpenStream stream(server.grpc_address(), 1u << 30);
  ASSERT_TRUE(stream.started());
  server.process().Signal(SIGTERM);
  // The second one counts once the first was taken: signals of one kind do not queue.
  while (server.process().Errors().find("draining") == std::string::npos) std::this_thread::yield();
  server.process().Signal(SIGTERM);
  const std::optional<int> code = server.process().Wait(std::chrono::seconds(10));
  ASSERT_TRUE(code.has_value()) << "still runs";
  EXPECT_NE(*code, 0);
}

TEST(ServeTest, AClientThatHoldsTheHttpPortDoesNotSpoilTheExit) {
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  const int slow = socket(AF_INET, SOCK_STREAM, 0);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_port = htons(
      static_cast<uint16_t>(std::stoi(server.http_address().substr(server.http_address().rfind(':') + 1))));
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  ASSERT_EQ(connect(slow, reinterpret_cast<const sockaddr*>(&address), sizeof(address)), 0);
  ASSERT_GT(write(slow, "GET /metrics HT", 15), 0);
  EXPECT_EQ(server.Stop(kPatience), 0) << server.process().Errors();
  close(slow);
}

TEST(ServeTest, NamesTheFlagThatTheEngineRefuses) {
  const ProcessResult result =
      RunProcess({MAMBAD_BINARY_DIR "/mambad", "serve", "--model", "deploy/models/mamba-tales",
                  "--queue-tokens", "10", "--grpc-address", "127.0.0.1:0", "--http-address", "127.0.0.1:0"});
  EXPECT_EQ(result.exit_code, 2) << result.err;
  EXPECT_NE(result.err.find("--queue-tokens"), std::string::npos) << result.err;
}

TEST(ServeTest, RefusesWrongFlagsWithCode2) {
  for (const std::vector<std::string>& flags :
       {std::vector<std::string>{"serve"},
        {"serve", "--model", "deploy/models/mamba-tales", "--slots", "x"},
        {"serve", "--model", "no/such/folder", "--grpc-address", "127.0.0.1:0", "--http-address",
         "127.0.0.1:0"},
        {"serve", "--model", "shape:no-such-shape", "--grpc-address", "127.0.0.1:0", "--http-address",
         "127.0.0.1:0"},
        {"nonsense"},
        {}}) {
    std::vector<std::string> argv = {MAMBAD_BINARY_DIR "/mambad"};
    argv.insert(argv.end(), flags.begin(), flags.end());
    const ProcessResult result = RunProcess(argv);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(flags) << result.err;
    EXPECT_EQ(std::count(result.err.begin(), result.err.end(), '\n'), 1) << result.err;
  }
}

TEST(ServeTest, LogsOneJsonLinePerRequestAndNoPrompt) {
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  OpenStream stream(server.grpc_address(), 5);
  EXPECT_TRUE(stream.Finish().ok());
  EXPECT_EQ(server.Stop(kPatience), 0);
  const std::string log = server.process().Errors();
  EXPECT_NE(log.find("\"message\":\"request finished\""), std::string::npos) << log;
  EXPECT_NE(log.find("\"output_tokens\":5"), std::string::npos) << log;
  EXPECT_EQ(log.find("Once upon"), std::string::npos) << log;
}

}  // namespace
}  // namespace mambad::testing
