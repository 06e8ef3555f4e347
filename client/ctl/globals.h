// What every verb of mambactl shares: the global flags, the exit codes, and the shape of a verb.
#ifndef MAMBAD_CLIENT_CTL_GLOBALS_H_
#define MAMBAD_CLIENT_CTL_GLOBALS_H_

#include <functional>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "client/client.h"

namespace CLI {
class App;
}

namespace mambad::ctl {

inline constexpr int kExitOk = 0;
inline constexpr int kExitFailed = 1;
inline constexpr int kExitUsage = 2;

struct Globals {
  std::string server = "127.0.0.1:50051";
  bool json = false;
  double timeout_s = 0;  // of one call; 0: none

  CallOptions Call() const;
  absl::StatusOr<Client> Connect() const;
};

// A verb as the command line knows it, and what runs it after parsing. The App is owned by its parent.
struct Verb {
  CLI::App* app;
  std::function<int(const Globals&)> run;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_GLOBALS_H_
