// Flag > environment > file > default; a mistake is one line and exit code 2.
#include "server/options.h"

#include <stdlib.h>

#include <algorithm>
#include <fstream>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "server/command_line.h"
#include "server/config_file.h"
#include "server/exit_code.h"

namespace mambad {
namespace {

// Parses as main does; `ran` says whether the command was reached.
struct Parsed {
  int exit_code = -1;
  bool ran = false;
  ServeOptions options;
  std::string out;
  std::string err;
};

Parsed Parse(std::vector<std::string> args) {
  Parsed parsed;
  CLI::App app("test", "mambad");
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
  CLI::App* serve = app.add_subcommand("serve", "");
  AddServeOptions(serve, &parsed.options);
  const std::vector<Command> commands = {{.app = serve, .run = [&] {
                                            parsed.ran = true;
                                            const absl::Status status = CheckServeOptions(parsed.options);
                                            return status.ok() ? 0 : FailWith(status);
                                          }}};
  std::vector<const char*> argv = {"mambad", "serve"};
  for (const std::string& arg : args) argv.push_back(arg.c_str());
  ::testing::internal::CaptureStdout();
  ::testing::internal::CaptureStderr();
  parsed.exit_code = RunCommandLine(&app, commands, static_cast<int>(argv.size()), argv.data());
  parsed.out = ::testing::internal::GetCapturedStdout();
  parsed.err = ::testing::internal::GetCapturedStderr();
  return parsed;
}

class OptionsTest : public ::testing::Test {
 protected:
  void TearDown() override {
    for (const std::string& name : set_) unsetenv(name.c_str());
  }
  void SetEnvironment(const std::string& name, const std::string& value) {
    setenv(name.c_str(), value.c_str(), 1);
    set_.push_back(name);
  }
  std::string WriteConfig(const std::string& text) {
    const std::string path = ::testing::TempDir() + "mambad_options_test.toml";
    std::ofstream(path) << text;
    return path;
  }

 private:
  std::vector<std::string> set_;
};

TEST_F(OptionsTest, FlagBeatsEnvironmentBeatsFileBeatsDefault) {
  const std::string config = WriteConfig("slots = 11\nqueue-requests = 12\nmodel = \"from # file\"\n");
  Parsed parsed = Parse({"--config", config});
  EXPECT_EQ(parsed.exit_code, 0) << parsed.err;
  EXPECT_EQ(parsed.options.model.model, "from # file");
  EXPECT_EQ(parsed.options.slots, 11u);
  EXPECT_EQ(parsed.options.queue_requests, 12u);
  EXPECT_EQ(parsed.options.decode_rows, 512u);

  SetEnvironment("MAMBAD_SLOTS", "21");
  SetEnvironment("MAMBAD_QUEUE_REQUESTS", "22");
  parsed = Parse({"--config", config, "--slots", "31"});
  EXPECT_EQ(parsed.options.slots, 31u);
  EXPECT_EQ(parsed.options.queue_requests, 22u);

  SetEnvironment("MAMBAD_CONFIG", config);
  parsed = Parse({});
  EXPECT_EQ(parsed.options.model.model, "from # file");
  EXPECT_EQ(parsed.options.slots, 21u);
}

TEST_F(OptionsTest, ReadsBooleansTimesAndSizes) {
  const std::string config = WriteConfig(
      "# a comment\nmodel = 'm'\ninsecure_plaintext = true\ndrain-timeout = \"1m30s\"\n"
      "state-memory = \"2GiB\"  # another\n");
  const Parsed parsed = Parse({"--config", config, "--stall-timeout", "2.5"});
  ASSERT_EQ(parsed.exit_code, 0) << parsed.err;
  EXPECT_TRUE(parsed.options.insecure_plaintext);
  EXPECT_EQ(parsed.options.drain_timeout, absl::Seconds(90));
  EXPECT_EQ(parsed.options.stall_timeout, absl::Milliseconds(2500));
  EXPECT_EQ(parsed.options.state_memory, uint64_t{2} << 30);
}

TEST_F(OptionsTest, RefusesMistakesWithOneLineAndCode2) {
  const std::vector<std::vector<std::string>> mistakes = {
      {},  // no model
      {"--model", "m", "--nonsense"},
      {"--model", "m", "--slots", "many"},
      {"--model", "m", "--slots", "-1"},
      {"--model", "m", "--device", "tpu"},
      {"--model", "m", "--device", "cuda:"},
      {"--model", "m", "--device", "cuda:x"},
      {"--model", "m", "--device", "cuda:1234"},
      {"--model", "m", "--device-timeout", "-1s"},
      {"--model", "m", "--precision", "f16"},
      {"--model", "m", "--state-dtype", "f16"},
      {"--model", "m", "--drain-timeout", "soon"},
      {"--model", "m", "--state-memory", "2XB"},
      {"--model", "m", "--grpc-address", "nowhere"},
      {"--model", "m", "--grpc-address", "0.0.0.0:50051"},  // not loopback
      {"--model", "m", "--http-address", "[::]:8002"},
      {"--model", "m", "--slots", "4", "--max-sessions", "4"},
      {"--model", "m", "--model-id", "a/b"},
      {"--model", "m", "--config", "/nonexistent.toml"},
      {"--config", WriteConfig("model = \"m\"\nunknown = 1\n")},
  };
  for (const std::vector<std::string>& args : mistakes) {
    const Parsed parsed = Parse(args);
    EXPECT_EQ(parsed.exit_code, kExitUsage) << ::testing::PrintToString(args);
    EXPECT_EQ(std::count(parsed.err.begin(), parsed.err.end(), '\n'), 1) << parsed.err;
    EXPECT_EQ(parsed.err.rfind("mambad: ", 0), 0u) << parsed.err;
  }
  SetEnvironment("MAMBAD_SLOTS", "many");
  const Parsed parsed = Parse({"--model", "m"});
  EXPECT_EQ(parsed.exit_code, kExitUsage);
  EXPECT_NE(parsed.err.find("MAMBAD_SLOTS"), std::string::npos) << parsed.err;
}

TEST_F(OptionsTest, PrintsAConfigThatReadsBackTheSame) {
  const Parsed first = Parse({"--model", "a \"b\"", "--slots", "7", "--drain-timeout", "5m",
                              "--insecure-plaintext", "--print-config"});
  ASSERT_EQ(first.exit_code, 0) << first.err;
  EXPECT_FALSE(first.ran);
  const Parsed second = Parse({"--config", WriteConfig(first.out), "--print-config"});
  EXPECT_EQ(second.exit_code, 0) << second.err << first.out;
  EXPECT_EQ(second.out, first.out);
  EXPECT_EQ(second.options.model.model, "a \"b\"");
  EXPECT_EQ(second.options.drain_timeout, absl::Minutes(5));
  EXPECT_TRUE(second.options.insecure_plaintext);
}

TEST_F(OptionsTest, HelpAndLoopbackAreFine) {
  EXPECT_EQ(Parse({"--help"}).exit_code, 0);
  EXPECT_EQ(Parse({"--model", "m", "--grpc-address", "localhost:1", "--http-address", "[::1]:0"}).exit_code,
            0);
  EXPECT_EQ(Parse({"--model", "m", "--grpc-address", "0.0.0.0:1", "--insecure-plaintext"}).exit_code, 0);
}

TEST(ConfigFileTest, RefusesWhatItDoesNotKnow) {
  for (const char* text :
       {"[table]\n", "a = [1, 2]\n", "a\n", "a = \n", "a = \"x\n", "a = 'x\n", "a = \"\\q\"\n", "a = word\n",
        "a = 1\na = 2\n", "a-b = 1\na_b = 2\n", "a b = 1\n", "a = \"x\" y\n"}) {
    EXPECT_FALSE(ParseConfigFile(text, "f").ok()) << text;
  }
  const auto entries = ParseConfigFile("a = 1_000 # c\r\nb='#'\n\nc = \"\\\"\\\\\\n\"\nd = -1.5e3", "f");
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 4u);
  EXPECT_EQ((*entries)[0].value, "1000");
  EXPECT_EQ((*entries)[1].value, "#");
  EXPECT_EQ((*entries)[2].value, "\"\\\n");
  EXPECT_EQ((*entries)[3].line, 5);
}

TEST(OptionsSlotsTest, StateMemoryIsABoundAndItsDefaultGivesSmallModelsAtLeast64) {
  EXPECT_EQ(DefaultSlots(uint64_t{1} << 30, 300 << 10), 512u);
  EXPECT_EQ(DefaultSlots(DefaultStateMemory(/*gpu=*/false, 0), 16 << 20), 64u);
  EXPECT_EQ(DefaultStateMemory(/*gpu=*/true, 10 << 20), uint64_t{5} << 20);
  EXPECT_EQ(DefaultSlots(1 << 20, 300 << 10), 3u);
  EXPECT_EQ(DefaultSlots(uint64_t{1} << 30, 24 << 20), 42u);
  EXPECT_EQ(DefaultSlots(1 << 20, 24 << 20), 0u);
}

TEST(OptionsModelIdTest, IsTheFoldersName) {
  ServeOptions options;
  options.model.model = "deploy/models/mamba-tales/";
  EXPECT_EQ(*ModelId(options), "mamba-tales");
  options.model.model = "deploy/models/../models/mamba-tales";
  EXPECT_EQ(*ModelId(options), "mamba-tales");
  options.model.model = "shape:mamba-130m";
  EXPECT_EQ(*ModelId(options), "mamba-130m");
  options.model.model = "somewhere/my model (v2)";
  EXPECT_EQ(*ModelId(options), "my-model--v2-");
  options.model_id = "other";
  EXPECT_EQ(*ModelId(options), "other");
}

}  // namespace
}  // namespace mambad
