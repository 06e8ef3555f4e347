// The real server, started as a user starts it, on free ports of the loopback interface.
#ifndef MAMBAD_TESTS_SUPPORT_SERVER_PROCESS_H_
#define MAMBAD_TESTS_SUPPORT_SERVER_PROCESS_H_

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "tests/support/process.h"

namespace mambad::testing {

inline constexpr std::string_view kTalesModel = "deploy/models/mamba-tales";

// `mambad serve` on the bundled model, ready or failed when the constructor returns. Killed on destruction.
class ServerProcess {
 public:
  // `flags` come after the model and the addresses, so they may replace them.
  explicit ServerProcess(const std::vector<std::string>& flags = {},
                         const std::vector<std::string>& environment = {});

  // Another program that serves and says so as `mambad serve` does.
  struct Program {
    std::vector<std::string> argv;
  };
  explicit ServerProcess(const Program& program);

  bool ready() const { return !ready_line_.empty(); }
  const std::string& ready_line() const { return ready_line_; }
  const std::string& grpc_address() const { return grpc_address_; }
  const std::string& http_address() const { return http_address_; }
  Process& process() { return process_; }

  // GET http://<http_address><path>: the body of a 200, else nothing.
  std::optional<std::string> Get(const std::string& path) const;

  // SIGTERM, then the exit code; nothing when the server still runs after `timeout`.
  std::optional<int> Stop(std::chrono::milliseconds timeout = std::chrono::seconds(60));

 private:
  void ReadReadyLine();

  Process process_;
  std::string ready_line_;
  std::string grpc_address_;
  std::string http_address_;
};

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_SERVER_PROCESS_H_
