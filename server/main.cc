// mambad: the server and the local engine.
#include <cstdlib>

#include "CLI/CLI.hpp"
#include "server/command_line.h"
#include "server/commands/commands.h"
#include "server/options.h"
#include "server/serve.h"
#include "server/version.h"

int main(int argc, char** argv) {
  // Before any thread: a GPU's kernels are loaded with its context, not at their first launch, which would
  // stall a request. A setting of the user's stands.
  setenv("CUDA_MODULE_LOADING", "EAGER", 0);
  CLI::App app("Serves Mamba language models: their recurrent state is a session.", "mambad");
  app.set_version_flag("--version", std::string("mambad ") + mambad::kVersion);
  app.require_subcommand(1);
  app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);

  mambad::ServeOptions serve_options;
  CLI::App* serve = app.add_subcommand("serve", "Serve a model over gRPC");
  mambad::AddServeOptions(serve, &serve_options);
  std::vector<mambad::Command> commands = {
      {.app = serve, .run = [&serve_options] { return mambad::RunServe(serve_options); }}};
  for (mambad::Command& command : mambad::AddLocalCommands(&app)) commands.push_back(std::move(command));
  return mambad::RunCommandLine(&app, commands, argc, argv);
}
