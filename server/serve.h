// `mambad serve`: the life of the server process, from flags to exit code.
//
//   listen -> load -> print the ready line -> serve -> (SIGTERM, SIGINT) drain -> shut down -> 0
//
// A second signal ends the process at once. A watchdog ends it when gRPC's shutdown hangs. A lost device ends
// it with kExitDeviceLost.
#ifndef MAMBAD_SERVER_SERVE_H_
#define MAMBAD_SERVER_SERVE_H_

#include "server/options.h"

namespace mambad {

// Main's thread; blocks until the server has ended. Prints the ready line to stdout, everything else to
// stderr.
int RunServe(const ServeOptions& options);

}  // namespace mambad

#endif  // MAMBAD_SERVER_SERVE_H_
