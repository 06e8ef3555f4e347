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

using ::testing::HasSubstr;

const char* const kScripts[] = {"deploy/install-deps.sh", "deploy/quickstart.sh", "tests/run.sh", ".ci/run"};

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
  for (const char* script : {"deploy/install-deps.sh", "deploy/quickstart.sh", "tests/run.sh"}) {
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

// The seconds that the first group of `pattern` names in `text`; -1 without a match.
int Seconds(const std::string& text, const std::string& pattern) {
  std::smatch match;
  return std::regex_search(text, match, std::regex(pattern)) ? std::stoi(match[1]) : -1;
}

std::string Read(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
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
