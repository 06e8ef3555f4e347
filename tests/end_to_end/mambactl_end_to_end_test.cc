// The two programs together, as a user starts them.
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/pty_process.h"
#include "tests/support/server_process.h"

namespace mambad::testing {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using Json = nlohmann::ordered_json;

constexpr char kPrompt[] = "Once upon a time there was a king";
constexpr char kPython[] = "/usr/bin/python3";  // Debian's, which has python3-grpcio

Json Parse(const std::string& text) { return Json::parse(text, nullptr, false); }

class MambactlEndToEndTest : public ::testing::Test {
 protected:
  static void SetUpTestSuite() { server_ = new ServerProcess(); }
  static void TearDownTestSuite() {
    delete server_;
    server_ = nullptr;
  }
  void SetUp() override { ASSERT_TRUE(server_->ready()) << server_->process().Errors(); }

  static std::vector<std::string> Command(std::vector<std::string> arguments) {
    arguments.insert(arguments.begin(), MAMBAD_BINARY_DIR "/mambactl");
    arguments.insert(arguments.end(), {"--server", server_->grpc_address()});
    return arguments;
  }
  static ProcessResult Run(std::vector<std::string> arguments, std::string_view input = {}) {
    return RunProcess(Command(std::move(arguments)), input);
  }

  static ServerProcess* server_;
};

ServerProcess* MambactlEndToEndTest::server_ = nullptr;

TEST_F(MambactlEndToEndTest, StreamUnaryAndLocalRunSayTheSame) {
  const std::vector<std::string> common = {"--prompt", kPrompt, "--max-tokens", "40", "--temperature", "0.8",
                                           "--seed",   "7",     "--json"};
  std::vector<std::string> stream = {"generate"};
  std::vector<std::string> unary = {"generate", "--unary"};
  std::vector<std::string> local = {MAMBAD_BINARY_DIR "/mambad", "run", "--model", std::string(kTalesModel)};
  for (auto* command : {&stream, &unary, &local})
    command->insert(command->end(), common.begin(), common.end());
  const Json streamed = Parse(Run(stream).out);
  const Json whole = Parse(Run(unary).out);
  const ProcessResult ran = RunProcess(local);
  const Json run = Parse(ran.out);
  ASSERT_TRUE(streamed.is_object() && whole.is_object() && run.is_object()) << ran.err;
  EXPECT_EQ(streamed["token_ids"].size(), 40U);
  for (const char* key : {"text", "token_ids", "finish_reason"}) {
    EXPECT_EQ(streamed[key], whole[key]) << key;
    EXPECT_EQ(streamed[key], run[key]) << key;
  }
}

TEST_F(MambactlEndToEndTest, APipeGetsTheTextAlone) {
  const std::vector<std::string> flags = {"--max-tokens", "20", "--temperature", "0", "--prompt", kPrompt};
  std::vector<std::string> plain = {"generate"};
  std::vector<std::string> json = {"generate", "--json"};
  for (auto* command : {&plain, &json}) command->insert(command->end(), flags.begin(), flags.end());
  const ProcessResult result = Run(plain);
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.err, "");
  EXPECT_EQ(Json(result.out), Parse(Run(json).out)["text"]);
  EXPECT_EQ(Run({"generate", "--max-tokens", "20", "--temperature", "0"}, std::string(kPrompt) + "\n").out,
            result.out);
}

TEST_F(MambactlEndToEndTest, ErrorsNameTheField) {
  const ProcessResult result = Run({"generate", "--prompt", "x", "--top-p", "2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("(INVALID_ARGUMENT: INVALID_PARAMETER, sampling.top_p)"));
  EXPECT_THAT(Run({"session", "get", "no-such-session"}).err, HasSubstr("(NOT_FOUND: SESSION_NOT_FOUND"));
}

TEST_F(MambactlEndToEndTest, TwoForksOfASessionContinueWhatItRead) {
  ASSERT_EQ(Run({"session", "create", "tale", "--ttl", "600"}).out, "sessions/tale\n");
  ASSERT_EQ(Run({"session", "append", "tale", "--prompt", kPrompt}).exit_code, 0);
  ASSERT_EQ(Run({"session", "fork", "tale", "fork"}).exit_code, 0);
  const auto turn = [](const std::string& session) {
    return Parse(Run({"generate", "--session", session, "--prompt", " who", "--max-tokens", "20", "--seed",
                      "3", "--json"})
                     .out);
  };
  const Json tale = turn("tale");
  const Json fork = turn("fork");
  EXPECT_EQ(tale["token_ids"].size(), 20U);
  EXPECT_EQ(tale["token_ids"], fork["token_ids"]);
  EXPECT_EQ(tale["usage"], fork["usage"]);
  const Json session = Parse(Run({"session", "get", "tale", "--json"}).out);
  EXPECT_EQ(session["position"], tale["usage"]["session_position"]);
  EXPECT_EQ(Run({"session", "delete", "tale", "fork"}).exit_code, 0);
}

TEST_F(MambactlEndToEndTest, ChatStopsAnAnswerAndGoesOn) {
  PtyProcess chat(Command({"chat", "--max-tokens", "1000000", "--ignore-eos", "--seed", "1"}));
  ASSERT_TRUE(chat.WaitFor("/help lists the commands")) << chat.shown();
  chat.Type("Once upon a time\r");
  ASSERT_TRUE(chat.WaitFor("Once upon a time"));
  ASSERT_TRUE(chat.WaitFor(" the")) << chat.shown();
  chat.Type("\x03");
  ASSERT_TRUE(chat.WaitFor("stopped, position ")) << chat.shown();
  chat.Type("/set max-tokens 5\r");
  ASSERT_TRUE(chat.WaitFor("max-tokens is 5")) << chat.shown();
  chat.Type("The king\r");
  ASSERT_TRUE(chat.WaitFor("5 tokens, prompt ")) << chat.shown();
  ASSERT_TRUE(chat.WaitFor("LENGTH"));
  chat.Type("/quit\r");
  EXPECT_EQ(chat.Wait(), 0);
  EXPECT_THAT(Run({"session", "list"}).out, Not(HasSubstr("sessions/")))
      << "chat deletes the session it opened";
}

TEST_F(MambactlEndToEndTest, ScoreAgreesWithTheLocalScore) {
  const Json remote = Parse(Run({"score", "--text", kPrompt, "--json"}).out);
  const Json local = Parse(RunProcess({MAMBAD_BINARY_DIR "/mambad", "score", "--model",
                                       std::string(kTalesModel), "--text", kPrompt, "--json"})
                               .out);
  ASSERT_TRUE(remote.is_object() && local.is_object());
  EXPECT_EQ(remote["token_ids"], local["token_ids"]);
  EXPECT_EQ(remote["logprobs"].size(), local["logprobs"].size());
  EXPECT_NEAR(remote["total_logprob"].get<double>(), local["total_logprob"].get<double>(), 1e-6);
}

TEST_F(MambactlEndToEndTest, BenchMeasuresARealServer) {
  const ProcessResult result = Run({"bench", "--streams", "4", "--output-tokens", "64", "--json"});
  const Json json = Parse(result.out);
  ASSERT_TRUE(json.is_object()) << result.err;
  EXPECT_EQ(json["errors"], 0) << result.err;
  EXPECT_GT(json["ttft_ms"]["p50"].get<double>(), 0);
  EXPECT_GT(json["itl_ms"]["p50"].get<double>(), 0);
}

TEST_F(MambactlEndToEndTest, TheExamplesRun) {
  const std::string address = server_->grpc_address();
  EXPECT_EQ(RunProcess({MAMBAD_BINARY_DIR "/example_generate", address, kPrompt}).exit_code, 0);
  const ProcessResult questions =
      RunProcess({MAMBAD_BINARY_DIR "/example_three_questions", address, "client/README.md"});
  EXPECT_EQ(questions.exit_code, 0) << questions.err;

  if (RunProcess({kPython, "-c", "import grpc, google.protobuf"}).exit_code != 0)
    GTEST_SKIP() << "python3-grpcio is not installed (sh deploy/install-deps.sh test installs it)";
  const std::string stubs = std::string(MAMBAD_BINARY_DIR) + "/../python-end-to-end";
  ASSERT_EQ(RunProcess({"sh", "client/examples/python_stubs.sh", stubs}).exit_code, 0);
  const ProcessResult python =
      RunProcess({kPython, "client/examples/generate.py", address, kPrompt}, {}, {"PYTHONPATH=" + stubs});
  EXPECT_EQ(python.exit_code, 0) << python.err;
  EXPECT_THAT(python.out, HasSubstr("[sent "));
}

}  // namespace
}  // namespace mambad::testing
