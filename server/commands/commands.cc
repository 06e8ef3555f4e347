#include "server/commands/commands.h"

namespace mambad {

std::vector<Command> AddLocalCommands(CLI::App* app) {
  return {AddRun(app), AddScore(app), AddBench(app), AddInspect(app), AddTokenize(app)};
}

}  // namespace mambad
