// `mambad serve`: the life of the server process, from flags to exit code.
//
//   listen -> load -> print the ready line -> serve -> (SIGTERM, SIGINT) drain -> shut down -> 0
//
// A second signal ends the process at once. A watchdog ends it when gRPC's shutdown hangs. A lost device ends
// it with kExitDeviceLost.
#ifndef MAMBAD_SERVER_SERVE_H_
#define MAMBAD_SERVER_SERVE_H_

#include <functional>
#include <memory>

#include "absl/status/statusor.h"
#include "server/options.h"
#include "server/serving.h"

namespace mambad {

// Main's thread; blocks until the server has ended. Prints the ready line to stdout, everything else to
// stderr.
int RunServe(const ServeOptions& options);

// The same, with another way to get from flags to what is served.
using MakeServingFn = std::function<absl::StatusOr<std::shared_ptr<const Serving>>(const ServeOptions&)>;
int RunServe(const ServeOptions& options, const MakeServingFn& make_serving);

}  // namespace mambad

#endif  // MAMBAD_SERVER_SERVE_H_
