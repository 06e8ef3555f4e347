#include "tests/support/server_process.h"

#include <signal.h>

#include <utility>

#include "httplib.h"

namespace mambad::testing {
namespace {

constexpr std::chrono::seconds kStartTimeout{120};  // a sanitizer build on a busy machine

std::vector<std::string> Arguments(const std::vector<std::string>& flags) {
  std::vector<std::string> argv = {MAMBAD_BINARY_DIR "/mambad",
                                   "serve",
                                   "--model",
                                   std::string(kTalesModel),
                                   "--grpc-address",
                                   "127.0.0.1:0",
                                   "--http-address",
                                   "127.0.0.1:0"};
  argv.insert(argv.end(), flags.begin(), flags.end());
  return argv;
}

// The value of `key=value` in a line of such words.
std::string Value(std::string_view line, std::string_view key) {
  const size_t at = line.find(" " + std::string(key) + "=");
  if (at == std::string_view::npos) return {};
  line.remove_prefix(at + key.size() + 2);
  return std::string(line.substr(0, line.find(' ')));
}

}  // namespace

ServerProcess::ServerProcess(const std::vector<std::string>& flags,
                             const std::vector<std::string>& environment)
    : process_(Arguments(flags), environment) {
  ReadReadyLine();
}

ServerProcess::ServerProcess(const Program& program) : process_(program.argv) { ReadReadyLine(); }

void ServerProcess::ReadReadyLine() {
  std::optional<std::string> line = process_.ReadLine(kStartTimeout);
  if (!line || !line->starts_with("mambad ready ")) return;
  ready_line_ = *line;
  grpc_address_ = Value(ready_line_, "grpc");
  http_address_ = Value(ready_line_, "http");
}

std::optional<std::string> ServerProcess::Get(const std::string& path) const {
  httplib::Client client("http://" + http_address_);
  client.set_read_timeout(20);
  const httplib::Result result = client.Get(path);
  if (!result || result->status != 200) return std::nullopt;
  return result->body;
}

std::optional<int> ServerProcess::Stop(std::chrono::milliseconds timeout) {
  process_.Signal(SIGTERM);
  return process_.Wait(timeout);
}

}  // namespace mambad::testing
