// The helper that starts programs for the other tests.
#include "tests/support/process.h"

#include <signal.h>

#include <chrono>

#include "gtest/gtest.h"

namespace mambad::testing {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

TEST(ProcessTest, ReturnsOutputErrorsAndExitCode) {
  const ProcessResult result = RunProcess({"sh", "-c", "cat; echo bad >&2; exit 7"}, "in\nput");
  EXPECT_EQ(result.out, "in\nput");
  EXPECT_EQ(result.err, "bad\n");
  EXPECT_EQ(result.exit_code, 7);
}

TEST(ProcessTest, ReadsLinesWhileTheProgramRuns) {
  Process process({"sh", "-c", "while read x; do echo got $x; done; printf end"});
  ASSERT_TRUE(process.Write("1\n"));
  EXPECT_EQ(process.ReadLine(seconds(10)), "got 1");
  ASSERT_TRUE(process.Write("2\n"));
  EXPECT_EQ(process.ReadLine(seconds(10)), "got 2");
  EXPECT_EQ(process.ReadLine(milliseconds(1)), std::nullopt);
  EXPECT_EQ(process.Wait(milliseconds(1)), std::nullopt);
  process.CloseInput();
  EXPECT_EQ(process.ReadLine(seconds(10)), "end");
  EXPECT_EQ(process.ReadLine(seconds(10)), std::nullopt);
  EXPECT_EQ(process.Wait(seconds(10)), 0);
}

TEST(ProcessTest, ReportsSignalsAndMissingPrograms) {
  Process process({"sleep", "600"});
  process.Signal(SIGTERM);
  EXPECT_EQ(process.Wait(seconds(10)), 128 + SIGTERM);
  EXPECT_EQ(RunProcess({"./no-such-program"}).exit_code, 127);
}

TEST(ProcessTest, AddsToTheEnvironment) {
  EXPECT_EQ(RunProcess({"sh", "-c", "echo $MAMBAD_PROBE"}, {}, {"MAMBAD_PROBE=7"}).out, "7\n");
}

}  // namespace
}  // namespace mambad::testing
