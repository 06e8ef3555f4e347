#include "client/ctl/command_line.h"

#include <CLI/CLI.hpp>
#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include "client/ctl/bench.h"
#include "client/ctl/chat.h"
#include "client/ctl/checks.h"
#include "client/ctl/fail.h"
#include "client/ctl/generate.h"
#include "client/ctl/globals.h"
#include "client/ctl/health.h"
#include "client/ctl/prompt_flags.h"
#include "client/ctl/score.h"
#include "client/ctl/session.h"

namespace mambad::ctl {
namespace {

// Every value may become text of a request, but for paths, which are bytes.
void CheckText(CLI::App& app) {
  for (CLI::Option* option : app.get_options()) {
    const std::string type = option->get_type_name();
    if (type != kPathType && type != kIdsType) option->check(CheckUtf8);
  }
  for (CLI::App* sub : app.get_subcommands([](CLI::App*) { return true; })) CheckText(*sub);
}

// CLI11 reports by throwing and has no other form. The exit code when there is nothing to run.
std::optional<int> Parse(CLI::App& app, int argc, const char* const* argv) {
  try {
    app.parse(argc, argv);
    return std::nullopt;
  } catch (const CLI::Success& help_or_version) {
    return app.exit(help_or_version);
  } catch (const CLI::Error& error) {
    std::string what = error.what();
    std::replace(what.begin(), what.end(), '\n', ' ');
    return FailUsage(what + " (see mambactl --help)");
  }
}

}  // namespace

int Main(int argc, const char* const* argv) {
  CLI::App app("mambactl: talk to a mambad server", "mambactl");
  app.fallthrough();
  app.set_version_flag("--version", "mambactl " MAMBAD_VERSION);
  app.option_defaults()->always_capture_default(false);

  Globals globals;
  app.add_option("--server", globals.server, "The server's address")
      ->envname("MAMBAD_SERVER")
      ->type_name("HOST:PORT");
  app.add_flag("--json", globals.json, "One JSON object a line on standard output");
  app.add_option("--timeout", globals.timeout_s, "Longest time of a call, in seconds")
      ->type_name("S")
      ->check(CheckSeconds);

  const std::vector<Verb> verbs = {AddGenerate(app), AddChat(app),   AddScore(app),
                                   AddSession(app),  AddHealth(app), AddBench(app)};
  CheckText(app);
  if (const std::optional<int> exit_code = Parse(app, argc, argv)) return *exit_code;
  for (const Verb& verb : verbs) {
    if (verb.app->parsed()) return verb.run(globals);
  }
  return FailUsage("a verb is needed: generate, chat, score, session, health or bench (see mambactl --help)");
}

}  // namespace mambad::ctl
