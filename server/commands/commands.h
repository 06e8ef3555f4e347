// The local verbs of mambad: run, score, bench, inspect, tokenize. Each drives the engine itself; no RPC is
// involved. With --json each prints one JSON object a line on stdout; everything that is no result goes to
// stderr.
//
// Threads: main's thread.
#ifndef MAMBAD_SERVER_COMMANDS_COMMANDS_H_
#define MAMBAD_SERVER_COMMANDS_COMMANDS_H_

#include <vector>

#include "CLI/CLI.hpp"
#include "server/command_line.h"

namespace mambad {

Command AddRun(CLI::App* app);
Command AddScore(CLI::App* app);
Command AddBench(CLI::App* app);
Command AddInspect(CLI::App* app);
Command AddTokenize(CLI::App* app);

// All of them, in the order of --help.
std::vector<Command> AddLocalCommands(CLI::App* app);

}  // namespace mambad

#endif  // MAMBAD_SERVER_COMMANDS_COMMANDS_H_
