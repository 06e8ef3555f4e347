// The command line of mambad: flag > MAMBAD_* environment > TOML file (--config) > default, for every
// command. CLI11's own handling would let the file beat the environment, so the two are applied here, after
// it has read the flags.
//
// Threads: main's thread, before any other runs (it reads the environment).
#ifndef MAMBAD_SERVER_COMMAND_LINE_H_
#define MAMBAD_SERVER_COMMAND_LINE_H_

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "CLI/CLI.hpp"
#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mambad {

// A command of the program: `app` holds its flags, `run` does the work with their values and gives the exit
// code.
struct Command {
  CLI::App* app = nullptr;
  std::function<int()> run;
};

// Adds a flag that takes a time ("90s", "5m", "1h30m"; a plain number is seconds) or a size ("1GiB", "64MiB";
// a plain number is bytes). `*value` is the default.
CLI::Option* AddDuration(CLI::App* app, const std::string& name, absl::Duration* value,
                         const std::string& help);
CLI::Option* AddBytes(CLI::App* app, const std::string& name, uint64_t* value, const std::string& help);

// Marks a flag as one that must be given somewhere: as a flag, in the environment or in the file.
void MarkRequired(CLI::Option* option);

// Parses, then runs the command that was named. Help and version print to stdout and return 0; a mistake
// prints one line to stderr and returns kExitUsage.
int RunCommandLine(CLI::App* app, const std::vector<Command>& commands, int argc, const char* const* argv);

}  // namespace mambad

#endif  // MAMBAD_SERVER_COMMAND_LINE_H_
