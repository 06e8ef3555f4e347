// The shell scripts parse, and answer wrong use with one clear line; units and manifests fit the server.
#include <fstream>
#include <iterator>
#include <regex>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"

namespace mambad::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::Not;

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

const char* const kScripts[] = {"deploy/install-deps.sh", "deploy/quickstart.sh", "tests/run.sh",
                                "tests/sanitize_gpu.sh",  "tests/delays_gpu.sh",  ".ci/run"};

TEST(ScriptsTest, Parse) {
  for (const char* script : kScripts) {
    const ProcessResult result = RunProcess({"sh", "-n", script});
    EXPECT_EQ(result.exit_code, 0) << script << ": " << result.err;
  }
}

TEST(ScriptsTest, RefuseUnknownOptions) {
  for (const char* script : {"deploy/install-deps.sh", "deploy/quickstart.sh", "tests/run.sh"}) {
    const ProcessResult result = RunProcess({"sh", script, "--no-such-option"});
    EXPECT_EQ(result.exit_code, 2) << script;
    EXPECT_THAT(result.err, HasSubstr("--no-such-option")) << script;
    EXPECT_EQ(result.out, "") << script;
  }
}

TEST(ScriptsTest, ExplainThemselves) {
  for (const char* script : {"deploy/install-deps.sh", "deploy/quickstart.sh", "tests/run.sh",
                             "tests/sanitize_gpu.sh", "tests/delays_gpu.sh"}) {
    const ProcessResult result = RunProcess({"sh", script, "--help"});
    EXPECT_EQ(result.exit_code, 0) << script;
    EXPECT_THAT(result.out, HasSubstr(script));
  }
}

// This test runs where everything is installed, so the script has nothing to say or do.
TEST(ScriptsTest, InstallDepsDoesNothingTwice) {
  const ProcessResult result = RunProcess({"sh", "deploy/install-deps.sh", "build"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out + result.err, "");
}

// From lines of `mambad bench --json` (commands_test has their keys) to two plots.
TEST(PlotTest, DrawsALinePerModel) {
  const std::string folder = ::testing::TempDir() + "plot_bench";
  const std::string lines = folder + ".jsonl";
  std::ofstream(lines)
      << R"({"model":"shape:m","batch":1,"prompt_tokens":10,"decode_tokens_per_s":100,"decode_step_ms_p50":2}
{"model":"shape:m","batch":8,"prompt_tokens":10,"decode_tokens_per_s":700,"decode_step_ms_p50":3}
{"model":"shape:m","batch":8,"prompt_tokens":1000,"decode_tokens_per_s":710,"decode_step_ms_p50":3}
)";
  const ProcessResult result = RunProcess({"python3", "kernels/bench/plot_bench.py", lines, folder});
  ASSERT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(Read(folder + "/tokens_by_batch.svg"), AllOf(HasSubstr(">m</text>"), HasSubstr("</svg>")));
  EXPECT_THAT(Read(folder + "/latency_by_position.svg"),
              AllOf(HasSubstr(">m, batch 8</text>"), Not(HasSubstr("batch 1<"))))
      << "one point makes no line";

  std::ofstream(lines)
      << R"({"model":"models/a&b","precision":"f32","batch":1,"prompt_tokens":10,"decode_tokens_per_s":100,"decode_step_ms_p50":2}
{"model":"models/a&b","precision":"f32","batch":8,"prompt_tokens":10,"decode_tokens_per_s":700,"decode_step_ms_p50":3}
{"model":"models/a&b","precision":"bf16","batch":1,"prompt_tokens":10,"decode_tokens_per_s":200,"decode_step_ms_p50":1}
{"model":"models/a&b","precision":"bf16","batch":8,"prompt_tokens":10,"decode_tokens_per_s":900,"decode_step_ms_p50":2}
)";
  ASSERT_EQ(RunProcess({"python3", "kernels/bench/plot_bench.py", lines, folder}).exit_code, 0);
  EXPECT_THAT(Read(folder + "/tokens_by_batch.svg"),
              AllOf(HasSubstr(">a&amp;b f32</text>"), HasSubstr(">a&amp;b bf16</text>")));

  std::ofstream(lines) << "no json\n";
  const ProcessResult refused = RunProcess({"python3", "kernels/bench/plot_bench.py", lines, folder});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_THAT(refused.err, HasSubstr(":1: not a line of mambad bench"));
}

// The seconds that the first group of `pattern` names in `text`; -1 without a match.
int Seconds(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? std::stoi(match[1]) : -1;
}

TEST(UnitsTest, StopTimesOutlastTheDrain) {
  const ProcessResult config = RunProcess(
      {MAMBAD_BINARY_DIR "/mambad", "serve", "--model", "deploy/models/mamba-tales", "--print-config"});
  ASSERT_EQ(config.exit_code, 0) << config.err;
  const int drain = Seconds(config.out, R"(drain-timeout\s*=\s*"?(\d+)s)");
  ASSERT_GT(drain, 0) << config.out;
  // Ending the last streams and writing the log takes a moment more.
  const int enough = drain + 10;
  EXPECT_GE(Seconds(Read("deploy/mambad.service"), R"(TimeoutStopSec=(\d+)\n)"), enough);
  EXPECT_GE(Seconds(Read("deploy/compose.yaml"), R"(stop_grace_period: (\d+)s)"), enough);
  EXPECT_GE(Seconds(Read("deploy/kubernetes.yaml"), R"(terminationGracePeriodSeconds: (\d+))"), enough);
}

}  // namespace
}  // namespace mambad::testing
