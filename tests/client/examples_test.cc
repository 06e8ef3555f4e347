// The examples run, in C++ and Python, against a server that speaks the protocol.
#include <algorithm>
#include <fstream>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/client/fake_server.h"
#include "tests/support/process.h"

namespace mambad::testing {
namespace {

using ::testing::HasSubstr;

constexpr char kPython[] = "/usr/bin/python3";  // Debian's, which has python3-grpcio

TEST(ExamplesTest, GenerateStreamsAContinuation) {
  FakeServer server;
  const ProcessResult result = RunProcess({MAMBAD_BINARY_DIR "/example_generate", server.address(), "once"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, TextOfTokens(60) + "\n");
}

TEST(ExamplesTest, ThreeQuestionsReadTheTextOnce) {
  FakeServer server;
  const ProcessResult result =
      RunProcess({MAMBAD_BINARY_DIR "/example_three_questions", server.address(), "LICENSE"});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_THAT(result.out, HasSubstr("tokens of text read once]"));
  EXPECT_THAT(result.out, HasSubstr("How does it end?\nAnswer:" + TextOfTokens(30)));
}

// Lines of `path`; with `fence`, those of the fenced blocks of that kind.
std::vector<std::string> Lines(const std::string& path, const std::string& fence = "") {
  std::ifstream file(path);
  std::vector<std::string> lines;
  bool inside = fence.empty();
  for (std::string line; std::getline(file, line);) {
    if (!fence.empty() && line.starts_with("```")) {
      inside = line == "```" + fence;
    } else if (inside) {
      lines.push_back(line);
    }
  }
  return lines;
}

TEST(ExamplesTest, TheReadmeShowsLinesOfTheExamplesInTheirOrder) {
  for (const auto& [fence, path] : {std::pair("cpp", "client/examples/generate.cc"),
                                    std::pair("python", "client/examples/generate.py")}) {
    const std::vector<std::string> shown = Lines("README.md", fence);
    const std::vector<std::string> example = Lines(path);
    ASSERT_FALSE(shown.empty()) << fence;
    auto at = example.begin();
    for (const std::string& line : shown) {
      at = std::find(at, example.end(), line);
      ASSERT_NE(at, example.end()) << path << " has no such line there: " << line;
    }
  }
}

TEST(ExamplesTest, ExamplesExplainWrongArguments) {
  for (const char* program : {"example_generate", "example_three_questions"}) {
    EXPECT_EQ(RunProcess({std::string(MAMBAD_BINARY_DIR "/") + program}).exit_code, 2);
  }
  EXPECT_EQ(RunProcess({MAMBAD_BINARY_DIR "/example_generate", "127.0.0.1:1", "x"}).exit_code, 1);
}

TEST(ExamplesTest, PythonSpeaksToAServerFromGeneratedStubs) {
  if (RunProcess({kPython, "-c", "import grpc, google.protobuf"}).exit_code != 0)
    GTEST_SKIP() << "python3-grpcio is not installed (sh deploy/install-deps.sh test installs it)";
  const std::string stubs = std::string(MAMBAD_BINARY_DIR) + "/../python";
  const ProcessResult made = RunProcess({"sh", "client/examples/python_stubs.sh", stubs});
  ASSERT_EQ(made.exit_code, 0) << made.err;

  FakeServer server;
  const ProcessResult result = RunProcess(
      {kPython, "client/examples/generate.py", server.address(), "once upon"}, {}, {"PYTHONPATH=" + stubs});
  EXPECT_EQ(result.exit_code, 0) << result.err;
  EXPECT_EQ(result.out, TextOfTokens(40) + "\n" + TextOfTokens(40) + "\n[sent 2 tokens, position 42]\n" +
                            TextOfTokens(40) + "\n[sent 2 tokens, position 84]\n");

  server.FailNext(
      {{.code = grpc::StatusCode::RESOURCE_EXHAUSTED, .message = "full", .reason = "QUEUE_FULL"}});
  const ProcessResult refused = RunProcess(
      {kPython, "client/examples/generate.py", server.address(), "once upon"}, {}, {"PYTHONPATH=" + stubs});
  EXPECT_EQ(refused.exit_code, 1);
  EXPECT_EQ(refused.err, "generate.py: full (RESOURCE_EXHAUSTED: QUEUE_FULL)\n");
}

}  // namespace
}  // namespace mambad::testing
