// The local commands of mambad: their JSON is a contract, and `run` says what the server says.
#include <algorithm>
#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "grpcpp/grpcpp.h"
#include "gtest/gtest.h"
#include "mambad/v1/generation.grpc.pb.h"
#include "nlohmann/json.hpp"
#include "tests/support/process.h"
#include "tests/support/server_process.h"
#include "tests/support/test_device.h"

namespace mambad::testing {
namespace {

using nlohmann::json;

const std::string kModel(kTalesModel);

ProcessResult Mambad(std::vector<std::string> arguments, std::string_view input = {}) {
  arguments.insert(arguments.begin(), MAMBAD_BINARY_DIR "/mambad");
  return RunProcess(arguments, input);
}

// The one JSON object that a command prints.
json RunJson(const std::vector<std::string>& arguments) {
  const ProcessResult result = Mambad(arguments);
  EXPECT_EQ(result.exit_code, 0) << ::testing::PrintToString(arguments) << result.err;
  return json::parse(result.out, nullptr, false);
}

std::vector<std::string> Keys(const json& object) {
  std::vector<std::string> keys;
  for (const auto& [key, value] : object.items()) keys.push_back(key);
  return keys;
}

TEST(CommandsTest, RunSaysWhatTheServerSays) {
  const json run = RunJson({"run", "--model", kModel, "--prompt", "Once upon a time", "--max-tokens", "30",
                            "--seed", "99", "--json"});
  ASSERT_FALSE(run.is_discarded());
  EXPECT_EQ(Keys(run),
            (std::vector<std::string>{"finish_reason", "seed", "text", "timing", "token_ids", "usage"}));
  EXPECT_EQ(Keys(run["timing"]), (std::vector<std::string>{"decode_s", "prefill_s", "prefill_tenths_s"}));
  EXPECT_EQ(run["timing"]["prefill_tenths_s"].size(), 10u);

  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  const auto stub = v1::GenerationService::NewStub(
      grpc::CreateChannel(server.grpc_address(), grpc::InsecureChannelCredentials()));
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("Once upon a time");
  request.mutable_stop()->set_max_output_tokens(30);
  request.mutable_sampling()->set_seed(99);
  request.mutable_output()->set_token_ids(true);
  grpc::ClientContext context;
  v1::GenerateResponse response;
  ASSERT_TRUE(stub->Generate(&context, request, &response).ok());
  EXPECT_EQ(response.candidates(0).text(), run["text"].get<std::string>());
  const std::vector<uint32_t> ids(response.candidates(0).token_ids().begin(),
                                  response.candidates(0).token_ids().end());
  EXPECT_EQ(json(ids), run["token_ids"]);
  EXPECT_EQ(v1::FinishReason_Name(response.candidates(0).finish_reason()),
            run["finish_reason"].get<std::string>());
  EXPECT_EQ(response.usage().session_position(), run["usage"]["session_position"]);
}

TEST(CommandsTest, RunTakesTokensFromAFile) {
  const std::string path = ::testing::TempDir() + "tokens.txt";
  std::ofstream(path) << "5,6 7\n8\n";
  const json from_file = RunJson({"run", "--model", kModel, "--tokens", "@" + path, "--max-tokens", "5",
                                  "--temperature", "0", "--json"});
  const json from_flag = RunJson(
      {"run", "--model", kModel, "--tokens", "5,6,7,8", "--max-tokens", "5", "--temperature", "0", "--json"});
  EXPECT_EQ(from_file["token_ids"], from_flag["token_ids"]);
  EXPECT_EQ(from_file["usage"]["input_tokens"], 4);
}

TEST(CommandsTest, RunPrintsTextAloneOnStdout) {
  const std::vector<std::string> run = {"run",    "--model", kModel,         "--prompt", "Once upon",
                                        "--seed", "5",       "--max-tokens", "12"};
  const ProcessResult plain = Mambad(run);
  std::vector<std::string> with_json = run;
  with_json.push_back("--json");
  EXPECT_EQ(plain.out, RunJson(with_json)["text"].get<std::string>() + "\n");
}

TEST(CommandsTest, ScoreGivesNullForTheFirstToken) {
  const json score = RunJson({"score", "--model", kModel, "--text", "Once upon a time", "--json"});
  EXPECT_EQ(Keys(score), (std::vector<std::string>{"logprobs", "token_ids", "total_logprob"}));
  ASSERT_EQ(score["logprobs"].size(), score["token_ids"].size());
  EXPECT_TRUE(score["logprobs"][0].is_null());
  double total = 0;
  for (size_t i = 1; i < score["logprobs"].size(); ++i) {
    EXPECT_LT(score["logprobs"][i].get<double>(), 0);
    total += score["logprobs"][i].get<double>();
  }
  // A sum of floats printed as they are.
  EXPECT_NEAR(total, score["total_logprob"].get<double>(), 1e-4);
}

TEST(CommandsTest, TokenizeTakesTextsOfEveryKind) {
  const std::string folder = "tests/data/models/gpt-neox-tokenizer";
  const json one = RunJson({"tokenize", "--model", folder, "--text", "Hello", "--json"});
  EXPECT_EQ(one["token_ids"], json({12092}));
  const ProcessResult lines =
      Mambad({"tokenize", "--model", folder, "--stdin-lines", "--json"}, "Hello\n\nHello\n");
  EXPECT_EQ(lines.out, "{\"token_ids\":[12092]}\n{\"token_ids\":[]}\n{\"token_ids\":[12092]}\n");
  const ProcessResult strings = Mambad({"tokenize", "--model", folder, "--stdin-json", "--json"},
                                       "\"Hello\"\n\"\"\n\"a\\nb\\u0000\"\n");
  EXPECT_EQ(strings.exit_code, 0) << strings.err;
  EXPECT_EQ(std::count(strings.out.begin(), strings.out.end(), '\n'), 3);
  EXPECT_EQ(Mambad({"tokenize", "--model", folder, "--stdin-json"}, "no json\n").exit_code, 2);
}

TEST(CommandsTest, InspectTellsWhatServingTakes) {
  const json description = RunJson({"inspect", "--model", kModel, "--json"});
  EXPECT_EQ(description["config"]["d_model"], 256);
  EXPECT_EQ(description["config"]["n_layer"], 8);
  EXPECT_GT(description["parameters"], 4000000);
  const int window_bytes = TestsRunOnGpu() ? 2 : 4;  // bf16 on the fused path
  EXPECT_GT(description["state_bytes"], 8 * 512 * (16 * 4 + 3 * window_bytes));
  EXPECT_GT(description["slots"], 64);
}

TEST(CommandsTest, ABf16StateTakesLessMemory) {
  const auto inspect = [](const std::string& dtype) {
    return RunJson({"inspect", "--model", kModel, "--state-dtype", dtype, "--json"});
  };
  const json f32 = inspect("f32"), bf16 = inspect("bf16");
  EXPECT_EQ(f32["state_dtype"], "f32");
  EXPECT_EQ(bf16["state_dtype"], "bf16");
  // 8 layers of 512 x 16 values, less the key of the rounding.
  EXPECT_EQ(f32["state_bytes"].get<int>() - bf16["state_bytes"].get<int>(), 8 * 512 * 16 * 2 - 16);
  EXPECT_GT(bf16["slots"], f32["slots"]);
  EXPECT_NE(bf16["numerics_id"], f32["numerics_id"]);
  EXPECT_EQ(bf16["digest"], f32["digest"]);
}

TEST(CommandsTest, BenchPrintsALinePerBatch) {
  const ProcessResult result = Mambad({"bench", "--model", kModel, "--batch", "1,3", "--prompt-tokens", "32",
                                       "--output-tokens", "8", "--json"});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  std::istringstream lines(result.out);
  int count = 0;
  for (std::string line; std::getline(lines, line); ++count) {
    const json row = json::parse(line, nullptr, false);
    EXPECT_EQ(Keys(row), (std::vector<std::string>{"batch", "bytes_per_step", "decode_step_ms_p50",
                                                   "decode_tokens_per_s", "device", "fraction_of_roof",
                                                   "model", "precision", "prefill_tokens_per_s",
                                                   "prompt_tokens", "roof_gb_per_s", "state_dtype"}));
    EXPECT_EQ(row["batch"], count == 0 ? 1 : 3);
    EXPECT_EQ(row["prompt_tokens"], 32);
    EXPECT_GT(row["prefill_tokens_per_s"], 0);
    EXPECT_GT(row["fraction_of_roof"], 0);
  }
  EXPECT_EQ(count, 2);
}

TEST(CommandsTest, MistakesAreOneLineAndCode2) {
  for (const std::vector<std::string>& arguments :
       {std::vector<std::string>{"run", "--model", kModel},
        {"run", "--model", kModel, "--prompt", "a", "--tokens", "1"},
        {"run", "--model", kModel, "--tokens", "1,x"},
        {"run", "--model", kModel, "--tokens", "1,,2"},
        {"score", "--model", kModel, "--tokens", "1,,2"},
        {"run", "--model", kModel, "--tokens", "@/nonexistent"},
        {"run", "--model", kModel, "--tokens", "4096"},
        {"run", "--model", kModel, "--prompt", "a", "--temperature", "-1"},
        {"score", "--model", kModel, "--tokens", ""},
        {"bench", "--model", kModel, "--batch", "0"},
        {"run", "--model", "tests/data/models/mamba-induction", "--prompt", "text"},
        {"inspect", "--model", "nowhere"}}) {
    const ProcessResult result = Mambad(arguments);
    EXPECT_EQ(result.exit_code, 2) << ::testing::PrintToString(arguments) << result.err;
    // On a GPU the log says first where the model runs.
    const auto lines = std::count(result.err.begin(), result.err.end(), '\n');
    EXPECT_TRUE(lines == 1 || (TestsRunOnGpu() && lines > 1)) << result.err;
    EXPECT_EQ(result.out, "");
  }
}

TEST(CommandsTest, VersionAndHelpAreFine) {
  const ProcessResult version = Mambad({"--version"});
  EXPECT_EQ(version.exit_code, 0);
  EXPECT_EQ(version.out.rfind("mambad ", 0), 0u) << version.out;
  EXPECT_EQ(Mambad({"--help"}).exit_code, 0);
  for (const char* command : {"serve", "run", "score", "bench", "inspect", "tokenize"}) {
    EXPECT_EQ(Mambad({command, "--help"}).exit_code, 0) << command;
  }
}

}  // namespace
}  // namespace mambad::testing
