// The README's commands work: every line of its `sh` blocks is run here against a real server, or is known to
// be run by something else.
#include <fstream>
#include <iterator>
#include <regex>
#include <sstream>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/process.h"
#include "tests/support/server_process.h"

namespace mambad::testing {
namespace {

using ::testing::ElementsAre;

// Commands that are not run from here, and what runs them.
struct Elsewhere {
  std::string_view command;  // the start of the line
  std::string_view by;
};
constexpr Elsewhere kElsewhere[] = {
    {"sh deploy/quickstart.sh", "a bare machine, before every release; scripts_test checks its options"},
    {"sh tests/run.sh", "continuous integration: it runs this test"},
    {"sh deploy/install-deps.sh", "tests/run.sh and quickstart.sh"},
    {"git clone", "whoever reads this"},
    {"cmake ", "tests/run.sh and quickstart.sh"},
    {"docker ", "nothing: deploy/README.md says so"},
};

std::string_view RunBy(const std::string& command) {
  for (const Elsewhere& elsewhere : kElsewhere) {
    if (command.starts_with(elsewhere.command)) return elsewhere.by;
  }
  return {};
}

// The commands of the fenced `sh` blocks, continued lines joined, comments and blank lines left out.
std::vector<std::string> Commands(std::istream& markdown) {
  std::vector<std::string> commands;
  bool inside = false;
  bool continued = false;
  for (std::string line; std::getline(markdown, line);) {
    if (line.starts_with("```")) {
      inside = line == "```sh";
      continue;
    }
    if (!inside) continue;
    line = std::regex_replace(line, std::regex(R"(\s+#\s.*$|^#.*$)"), "");
    const bool goes_on = line.ends_with("\\");
    if (goes_on) line.pop_back();
    if (continued) {
      commands.back() += line;
    } else if (!line.empty()) {
      commands.push_back(line);
    }
    continued = goes_on;
  }
  return commands;
}

// `command` as it reads for `server`: its addresses in place of the default ones, programs from the build
// folder. `mambad serve` would not end, so it only checks and prints its configuration.
std::string ForServer(std::string command, const ServerProcess& server) {
  command = std::regex_replace(
      command, std::regex(R"((\S*/)?\bmambad\b(?= (serve|run|score|bench|inspect|tokenize)))"),
      MAMBAD_BINARY_DIR "/mambad");
  command = std::regex_replace(command, std::regex(R"((\S*/)?\bmambactl\b(?= [a-z]))"),
                               MAMBAD_BINARY_DIR "/mambactl");
  command =
      std::regex_replace(command, std::regex(R"((127\.0\.0\.1|localhost):50051)"), server.grpc_address());
  command =
      std::regex_replace(command, std::regex(R"((127\.0\.0\.1|localhost):8002)"), server.http_address());
  const bool client = command.find("/mambactl ") != std::string::npos;
  if (client && command.find("--server") == std::string::npos) {
    command = std::regex_replace(command, std::regex(R"(/mambactl ([a-z]+))"),
                                 "/mambactl $1 --server " + server.grpc_address());
  }
  if (command.find("/mambad serve") != std::string::npos) {
    command = std::regex_replace(command, std::regex(R"(\s*&\s*$)"), "") + " --print-config";
  }
  return command;
}

TEST(ReadmeTest, EveryCommandWorks) {
  std::ifstream readme("README.md");
  const std::vector<std::string> commands = Commands(readme);
  EXPECT_THAT(commands, ::testing::IsSupersetOf({"sh deploy/quickstart.sh", "sh tests/run.sh"}));
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  for (const std::string& command : commands) {
    if (!RunBy(command).empty()) continue;
    const std::string local = ForServer(command, server);
    const ProcessResult result = RunProcess({"sh", "-c", local});
    EXPECT_EQ(result.exit_code, 0) << command << "\nrun as\n" << local << "\n" << result.out << result.err;
  }
}

TEST(ReadmeTest, ReadsCommandsFromFencedBlocks) {
  std::istringstream text(
      "no\n```sh\n# a comment\na --x \\\n  --y   # why\n\nb '#1'\n```\nno\n```\nno\n```\n");
  EXPECT_THAT(Commands(text), ElementsAre("a --x   --y", "b '#1'"));
}

}  // namespace
}  // namespace mambad::testing
