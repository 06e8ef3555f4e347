// The verbs of mambactl as a shell sees them: bytes on stdout, lines on stderr, exit codes.
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/process.h"
#include "tests/support/pty_process.h"

namespace mambad::testing {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;
using Json = nlohmann::ordered_json;

constexpr char kMambactl[] = MAMBAD_BINARY_DIR "/mambactl";

std::vector<std::string> Keys(const Json& json) {
  std::vector<std::string> keys;
  for (const auto& item : json.items()) keys.push_back(item.key());
  return keys;
}

class MambactlTest : public ::testing::Test {
 protected:
  std::vector<std::string> Command(std::vector<std::string> arguments) const {
    arguments.insert(arguments.begin(), kMambactl);
    arguments.insert(arguments.end(), {"--server", server_.address()});
    return arguments;
  }
  ProcessResult Run(std::vector<std::string> arguments, std::string_view input = {}) const {
    return RunProcess(Command(std::move(arguments)), input);
  }

  FakeServer server_;
};

TEST_F(MambactlTest, GenerateWritesTheTextAloneToAPipe) {
  const ProcessResult result = Run({"generate", "--prompt", "once", "--max-tokens", "5"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, TextOfTokens(5));
  EXPECT_EQ(result.err, "");
}

TEST_F(MambactlTest, GenerateTakesItsPromptFromStandardInputWithoutTheLastNewline) {
  EXPECT_EQ(Run({"generate", "-n", "1"}, "a b\nc\n").exit_code, 0);
  EXPECT_EQ(Run({"generate", "-n", "1", "--file", "-"}, "d").exit_code, 0);
  EXPECT_EQ(server_.generate_requests()[0].prompt().text(), "a b\nc");
  EXPECT_EQ(server_.generate_requests()[1].prompt().text(), "d");
}

TEST_F(MambactlTest, GenerateSendsEveryFlag) {
  const ProcessResult result = Run({"generate",
                                    "--tokens",
                                    "1,2,3",
                                    "--temperature",
                                    "0.5",
                                    "--top-k",
                                    "4",
                                    "--top-p",
                                    "0.9",
                                    "--min-p",
                                    "0.1",
                                    "--repetition-penalty",
                                    "1.2",
                                    "--presence-penalty",
                                    "-1",
                                    "--frequency-penalty",
                                    "-0.5",
                                    "--seed",
                                    "18446744073709551615",
                                    "--logit-bias",
                                    "7=-100",
                                    "--logit-bias",
                                    "8=2.5",
                                    "--max-tokens",
                                    "2",
                                    "--min-tokens",
                                    "1",
                                    "--stop",
                                    "\n",
                                    "--stop",
                                    "--x",
                                    "--stop-token",
                                    "9",
                                    "--include-stop",
                                    "--ignore-eos",
                                    "--consume-stop-token",
                                    "--priority",
                                    "-3",
                                    "--max-queue-time",
                                    "1.5",
                                    "--request-id",
                                    "r",
                                    "--session",
                                    "s",
                                    "--expect-position",
                                    "0",
                                    "--model",
                                    "m",
                                    "--logprobs",
                                    "--top-logprobs",
                                    "2",
                                    "--prompt-logprobs"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  ASSERT_EQ(server_.generate_requests().size(), 1U);
  const v1::GenerateRequest request = server_.generate_requests()[0];
  EXPECT_THAT(request.prompt().token_ids().ids(), ElementsAre(1, 2, 3));
  EXPECT_FLOAT_EQ(request.sampling().temperature(), 0.5F);
  EXPECT_EQ(request.sampling().top_k(), 4U);
  EXPECT_FLOAT_EQ(request.sampling().top_p(), 0.9F);
  EXPECT_FLOAT_EQ(request.sampling().min_p(), 0.1F);
  EXPECT_FLOAT_EQ(request.sampling().repetition_penalty(), 1.2F);
  EXPECT_FLOAT_EQ(request.sampling().presence_penalty(), -1.0F);
  EXPECT_FLOAT_EQ(request.sampling().frequency_penalty(), -0.5F);
  EXPECT_EQ(request.sampling().seed(), UINT64_MAX);
  EXPECT_FLOAT_EQ(request.sampling().logit_bias().at(7), -100.0F);
  EXPECT_FLOAT_EQ(request.sampling().logit_bias().at(8), 2.5F);
  EXPECT_EQ(request.stop().min_output_tokens(), 1U);
  EXPECT_THAT(request.stop().stop_sequences(), ElementsAre("\n", "--x"));
  EXPECT_THAT(request.stop().stop_token_ids(), ElementsAre(9));
  EXPECT_TRUE(request.stop().include_stop_sequence() && request.stop().ignore_eos() &&
              request.stop().consume_stop_token());
  EXPECT_EQ(request.priority(), -3);
  EXPECT_EQ(request.max_queue_time().seconds(), 1);
  EXPECT_EQ(request.max_queue_time().nanos(), 500'000'000);
  EXPECT_EQ(request.request_id(), "r");
  EXPECT_EQ(request.session(), "sessions/s");
  EXPECT_TRUE(request.has_expect_position());
  EXPECT_EQ(request.model(), "models/m");
  EXPECT_TRUE(request.output().logprobs() && request.output().prompt_logprobs());
  EXPECT_EQ(request.output().top_logprobs(), 2U);
}

TEST_F(MambactlTest, UnsetFlagsStayUnset) {
  ASSERT_EQ(Run({"generate", "--prompt", "x"}).exit_code, 0);
  const v1::GenerateRequest request = server_.generate_requests()[0];
  EXPECT_EQ(request.sampling().ByteSizeLong(), 0U);
  EXPECT_EQ(request.stop().ByteSizeLong(), 0U);
}

TEST_F(MambactlTest, GeneratePrintsOneJsonObject) {
  const ProcessResult result =
      Run({"generate", "--prompt", "once upon", "-n", "2", "--seed", "7", "--logprobs", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out, nullptr, false);
  EXPECT_THAT(Keys(json), ElementsAre("text", "token_ids", "finish_reason", "usage", "logprobs", "request_id",
                                      "seed", "candidate_index", "timing"));
  EXPECT_EQ(json["text"], TextOfTokens(2));
  EXPECT_EQ(json["token_ids"], Json({kFirstToken, kFirstToken + 1}));
  EXPECT_EQ(json["finish_reason"], "LENGTH");
  EXPECT_EQ(json["usage"]["input_tokens"], 2);
  EXPECT_EQ(json["usage"]["output_tokens"], 2);
  EXPECT_EQ(json["seed"], 7);
  EXPECT_TRUE(json["timing"]["ttft_s"].is_number());
  EXPECT_EQ(result.out.find('\n'), result.out.size() - 1) << "one line";
}

TEST_F(MambactlTest, UnaryAndStreamSayTheSame) {
  const Json stream = Json::parse(Run({"generate", "--prompt", "x", "--json"}).out, nullptr, false);
  const Json unary = Json::parse(Run({"generate", "--prompt", "x", "--unary", "--json"}).out, nullptr, false);
  EXPECT_EQ(stream["text"], unary["text"]);
  EXPECT_EQ(stream["token_ids"], unary["token_ids"]);
  EXPECT_EQ(Run({"generate", "--prompt", "x", "--unary"}).out, stream["text"].get<std::string>());
}

TEST_F(MambactlTest, CandidatesComeWholeAndInOrder) {
  const ProcessResult result = Run({"generate", "--prompt", "x", "-n", "2", "--candidates", "3"});
  EXPECT_EQ(result.out, " w0 w1\n w0 w1\n w0 w1\n");
}

TEST_F(MambactlTest, AModelWithoutTokenizerAnswersInIds) {
  server_.SetHasTokenizer(false);
  EXPECT_EQ(Run({"generate", "--tokens", "1,2", "-n", "3"}).out, "100 101 102 ");
  server_.SetHasTokenizer(true);
  EXPECT_EQ(Run({"generate", "--tokens", "1,2", "-n", "3"}).out, TextOfTokens(3));
  EXPECT_EQ(Run({"generate", "--tokens", "1,2", "-n", "3", "--token-ids"}).out, "100 101 102 ");
}

TEST_F(MambactlTest, StatsGoToStandardError) {
  const ProcessResult result = Run({"generate", "--prompt", "x", "-n", "4", "--stats"});
  EXPECT_EQ(result.out, TextOfTokens(4));
  EXPECT_THAT(result.err,
              AllOf(StartsWith("ttft "), HasSubstr(" tokens/s, 4 tokens, prompt 1, position 5, LENGTH\n")));
}

TEST_F(MambactlTest, ErrorsAreOneLineWithCodeReasonAndField) {
  server_.FailNext({{.code = grpc::StatusCode::INVALID_ARGUMENT,
                     .message = "sampling.top_p must be in (0, 1]",
                     .reason = "INVALID_PARAMETER",
                     .field = "sampling.top_p"}});
  const ProcessResult result = Run({"generate", "--prompt", "x", "--top-p", "2"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "");
  EXPECT_EQ(
      result.err,
      "mambactl: sampling.top_p must be in (0, 1] (INVALID_ARGUMENT: INVALID_PARAMETER, sampling.top_p)\n");
}

TEST_F(MambactlTest, WrongCommandLinesExitWithTwoAndOneLine) {
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"generate", "--top-k", "-1", "--prompt", "x"},
                                             {"generate", "--no-such-flag", "--prompt", "x"},
                                             {"generate", "--prompt", "x", "--file", "y"},
                                             {"generate", "--file", "/no/such/file"},
                                             {"generate", "--tokens", "1,x"},
                                             {"generate", "--prompt", "x", "--logit-bias", "1"},
                                             {"session", "get"},
                                             {"session", "create", "--label", "novalue"},
                                             {"bench", "--streams", "0"},
                                             {"session", "create", "--ttl", "0"},
                                             {"session", "create", "--ttl", "-5"},
                                             {"session", "create", "--ttl", "nan"},
                                             {"chat", "--ttl", "nan"},
                                             {"generate", "--prompt", "x", "--max-queue-time", "-1"},
                                             {"generate", "--prompt", "x", "--max-queue-time", "nan"},
                                             {"generate", "--prompt", "x", "--timeout", "nan"},
                                             {"generate", "--tokens", "1,,2"},
                                             {"score", "--text", "x", "--context-tokens", "1,"},
                                             {"chat", "--before", "\\q"},
                                             {"no-such-verb"}}) {
    const ProcessResult result = Run(arguments);
    EXPECT_EQ(result.exit_code, 2) << arguments[0] << ": " << result.err;
    EXPECT_THAT(result.err, StartsWith("mambactl: "));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(MambactlTest, TextThatIsNotUtf8IsOneClearLineAndNoCall) {
  const std::string bad = "caf\xE9";
  const std::string path = ::testing::TempDir() + "mambactl_test_latin1";
  std::ofstream(path) << bad;
  for (const std::vector<std::string>& arguments :
       std::vector<std::vector<std::string>>{{"generate", "--prompt", bad},
                                             {"generate", "--file", path},
                                             {"generate", "--prompt", "x", "--stop", "ok", "--stop", bad},
                                             {"generate", "--prompt", "x", "--request-id", bad},
                                             {"generate", "--prompt", "x", "--session", bad},
                                             {"generate"},
                                             {"score", "--text", "x", "--context", bad},
                                             {"session", "create", "--label", "k=" + bad},
                                             {"session", "get", bad},
                                             {"health", "--service", bad},
                                             {"chat", "--model", bad},
                                             {"chat", "--before", "\\xE9"}}) {
    const ProcessResult result = Run(arguments, bad);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(arguments) << result.err;
    EXPECT_THAT(result.err, AllOf(StartsWith("mambactl: "), HasSubstr("UTF-8")));
    EXPECT_EQ(result.err.find('\n'), result.err.size() - 1) << result.err;
  }
  EXPECT_EQ(server_.calls(), 0);
}

TEST_F(MambactlTest, APathIsBytes) {
  const std::string path = ::testing::TempDir() + "mambactl_test_caf\xE9";
  std::ofstream(path) << "1,2";
  EXPECT_EQ(Run({"generate", "--file", path}).exit_code, 0);
  EXPECT_EQ(Run({"generate", "--tokens", "@" + path}).exit_code, 0);
}

TEST_F(MambactlTest, AQueueTimeOfZeroIsSent) {
  const ProcessResult zero = Run({"generate", "--prompt", "x", "--max-queue-time", "0"});
  ASSERT_EQ(zero.exit_code, 0) << zero.err;
  const ProcessResult unset = Run({"generate", "--prompt", "x"});
  ASSERT_EQ(unset.exit_code, 0) << unset.err;
  EXPECT_TRUE(server_.generate_requests()[0].has_max_queue_time());
  EXPECT_FALSE(server_.generate_requests()[1].has_max_queue_time());
}

TEST_F(MambactlTest, NamesAnUnknownVerbAndAMissingOne) {
  EXPECT_THAT(Run({"no-such-verb"}).err, HasSubstr("no-such-verb"));
  const ProcessResult result = RunProcess({kMambactl});
  EXPECT_EQ(result.exit_code, 2);
  EXPECT_THAT(result.err, HasSubstr("a verb is needed: generate, chat"));
}

TEST_F(MambactlTest, SaysWhenNothingListens) {
  const ProcessResult result =
      RunProcess({kMambactl, "generate", "--prompt", "x", "--server", "127.0.0.1:1"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, testing::StartsWith("mambactl: no server answers at 127.0.0.1:1: "));
  EXPECT_THAT(result.err, testing::HasSubstr("Connection refused"));
}

TEST_F(MambactlTest, TakesTheServerFromTheEnvironment) {
  const ProcessResult result = RunProcess({kMambactl, "health"}, {}, {"MAMBAD_SERVER=" + server_.address()});
  EXPECT_EQ(result.exit_code, 0) << result.err;
}

TEST_F(MambactlTest, EndsQuietlyWhenItsReaderHasGone) {
  const ProcessResult result =
      RunProcess({"sh", "-c",
                  std::string(kMambactl) + " generate --prompt x -n 200000 --server " + server_.address() +
                      " | head -c 6; echo; exit 0"});
  EXPECT_EQ(result.out, " w0 w1\n");
  EXPECT_EQ(result.err, "");
}

TEST_F(MambactlTest, InterruptCancelsTheCallAndEndsAsInterrupted) {
  server_.StallAfter(2);
  Process process(Command({"generate", "--prompt", "x", "--stop", "z"}));
  process.CloseInput();
  while (server_.generate_requests().empty() && !process.Wait(std::chrono::milliseconds(1)).has_value()) {
  }
  process.Signal(2);
  EXPECT_EQ(process.Wait(std::chrono::seconds(60)), 128 + 2);
  EXPECT_THAT(std::string(" w0 w1"), StartsWith(process.ReadAll())) << "what had come was written";
}

TEST_F(MambactlTest, ATerminalGetsAFinalNewline) {
  PtyProcess process(Command({"generate", "--prompt", "x", "-n", "2"}));
  EXPECT_EQ(process.Wait(), 0);
  EXPECT_EQ(process.shown(), " w0 w1\r\n");
}

TEST_F(MambactlTest, ACallEndsAtItsTimeout) {
  server_.StallAfter(1);
  const ProcessResult result = Run({"generate", "--prompt", "x", "--timeout", "0.3"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_THAT(result.err, HasSubstr("(DEADLINE_EXCEEDED"));
}

TEST_F(MambactlTest, HealthIsAnExitCode) {
  EXPECT_EQ(Run({"health"}).out, "SERVING\n");
  server_.SetServing(false);
  const ProcessResult result = Run({"health"});
  EXPECT_EQ(result.exit_code, 1);
  EXPECT_EQ(result.out, "NOT_SERVING\n");
  EXPECT_EQ(Run({"health", "--service", "no.such.Service"}).exit_code, 1);
}

TEST_F(MambactlTest, SessionVerbsFeedAndForkAndDelete) {
  EXPECT_EQ(Run({"session", "create", "a", "--ttl", "60", "--label", "k=v=w"}).out, "sessions/a\n");
  EXPECT_EQ(Run({"session", "append", "a", "--prompt", "one two three"}).out, "read 3 tokens, position 3\n");
  EXPECT_EQ(Run({"session", "fork", "a", "b"}).out, "sessions/b\n");
  EXPECT_EQ(Run({"session", "create", "c"}).exit_code, 0);
  const Json a = Json::parse(Run({"session", "get", "a", "--json"}).out, nullptr, false);
  EXPECT_EQ(a["position"], 3);
  EXPECT_EQ(a["state"], "IDLE");
  EXPECT_EQ(a["labels"]["k"], "v=w");

  // Three sessions are two pages of the fake's.
  const std::string table = Run({"session", "list"}).out;
  EXPECT_THAT(table, AllOf(HasSubstr("POSITION"), HasSubstr("sessions/a"), HasSubstr("sessions/b"),
                           HasSubstr("sessions/c")));
  EXPECT_EQ(Run({"session"}).out, table) << "listing is the default";
  EXPECT_EQ(Run({"session", "delete", "a", "sessions/b", "c"}).exit_code, 0);
  EXPECT_EQ(Run({"session", "list", "--json"}).out, "");
  const ProcessResult gone = Run({"session", "get", "a"});
  EXPECT_EQ(gone.exit_code, 1);
  EXPECT_EQ(gone.err, "mambactl: no such session (NOT_FOUND: SESSION_NOT_FOUND)\n");
  EXPECT_EQ(Run({"session", "delete", "a", "--allow-missing"}).exit_code, 0);
}

TEST_F(MambactlTest, AnEmptyPromptGoesOnWithASession) {
  ASSERT_EQ(Run({"session", "create", "a"}).exit_code, 0);
  EXPECT_EQ(Run({"generate", "--session", "a", "--prompt", "", "-n", "2"}).out, TextOfTokens(2));
  EXPECT_EQ(server_.Position("sessions/a"), 2U);
}

TEST_F(MambactlTest, ScorePrintsTheSameShapeAsMambadScore) {
  const Json json =
      Json::parse(Run({"score", "--text", "a b", "--context", "c", "--json"}).out, nullptr, false);
  EXPECT_THAT(Keys(json), ElementsAre("token_ids", "logprobs", "total_logprob", "is_greedy"));
  EXPECT_EQ(json["logprobs"], Json({nullptr, -1.5}));
  EXPECT_EQ(Run({"score", "--text", "a b"}).out, "total_logprob -1.500000 tokens 2 greedy no\n");
}

TEST_F(MambactlTest, BenchPrintsTheKeysOfTheContract) {
  const ProcessResult result =
      Run({"bench", "--streams", "4", "--prompt-tokens", "8", "--output-tokens", "32", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  const Json json = Json::parse(result.out, nullptr, false);
  EXPECT_THAT(Keys(json), ElementsAre("streams", "ttft_ms", "itl_ms", "output_tokens_per_s", "errors"));
  EXPECT_THAT(Keys(json["ttft_ms"]), ElementsAre("p50", "p90", "p99"));
  EXPECT_THAT(Keys(json["itl_ms"]), ElementsAre("p50", "p90", "p99"));
  EXPECT_EQ(json["streams"], 4);
  EXPECT_EQ(json["errors"], 0);
  for (const v1::GenerateRequest& request : server_.generate_requests()) {
    EXPECT_EQ(request.prompt().token_ids().ids_size(), 8);
    EXPECT_EQ(request.stop().max_output_tokens(), 32U);
    EXPECT_TRUE(request.stop().ignore_eos());
  }
}

TEST_F(MambactlTest, BenchCountsErrors) {
  server_.FailNext({{.code = grpc::StatusCode::UNAVAILABLE, .message = "draining"}});
  const ProcessResult result = Run({"bench", "--streams", "2", "--output-tokens", "4", "--json"});
  EXPECT_EQ(result.exit_code, 0);
  EXPECT_EQ(Json::parse(result.out, nullptr, false)["errors"], 1);
  EXPECT_THAT(result.err, HasSubstr("draining (UNAVAILABLE)"));
}

TEST_F(MambactlTest, HelpAndVersionSucceed) {
  EXPECT_THAT(RunProcess({kMambactl, "--help"}).out, HasSubstr("generate"));
  EXPECT_EQ(RunProcess({kMambactl, "generate", "--help"}).exit_code, 0);
  EXPECT_THAT(RunProcess({kMambactl, "--version"}).out, StartsWith("mambactl "));
}

}  // namespace
}  // namespace mambad::testing
