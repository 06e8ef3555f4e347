// Child processes for tests: run one to its end, or talk to one while it runs.
#ifndef MAMBAD_TESTS_SUPPORT_PROCESS_H_
#define MAMBAD_TESTS_SUPPORT_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mambad::testing {

// A running program whose stdin and stdout are pipes to this process; stderr is appended to a file of its
// own. Killed and reaped on destruction. Not thread-safe.
class Process {
 public:
  // argv[0] is a path, or a name to be found on PATH. `environment` is added as NAME=VALUE. A program that
  // cannot be started ends with exit code 127.
  explicit Process(const std::vector<std::string>& argv, const std::vector<std::string>& environment = {});
  ~Process();
  Process(const Process&) = delete;
  Process& operator=(const Process&) = delete;

  pid_t pid() const { return pid_; }

  // Writes all of `input` to the program's stdin; false when it has closed it.
  bool Write(std::string_view input);
  void CloseInput();

  // The next line of stdout without its newline; the rest at its end; nothing at the end or after `timeout`.
  std::optional<std::string> ReadLine(std::chrono::milliseconds timeout);

  // Everything that is still to come on stdout.
  std::string ReadAll();

  void Signal(int signal);

  // The exit code (128 + n after signal n); nothing when the program still runs after `timeout`.
  std::optional<int> Wait(std::chrono::milliseconds timeout);

  // What the program has written to stderr so far.
  std::string Errors() const;

 private:
  bool Fill(std::chrono::milliseconds timeout);  // reads more of stdout; false at its end or after `timeout`

  pid_t pid_ = -1;
  int input_ = -1;
  int output_ = -1;
  std::string errors_path_;
  std::string buffer_;
  std::optional<int> exit_code_;
};

struct ProcessResult {
  int exit_code = 0;
  std::string out;
  std::string err;
};

// Runs a program to its end with `input` (at most a pipe's capacity, 64 KiB) on its stdin.
ProcessResult RunProcess(const std::vector<std::string>& argv, std::string_view input = {},
                         const std::vector<std::string>& environment = {});

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_PROCESS_H_
