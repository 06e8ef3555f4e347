// The shell scripts parse, and answer wrong use with one clear line.
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

}  // namespace
}  // namespace mambad::testing
