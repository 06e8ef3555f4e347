// A program that believes to talk to a person: its standard input, output and error are a terminal.
#ifndef MAMBAD_TESTS_SUPPORT_PTY_PROCESS_H_
#define MAMBAD_TESTS_SUPPORT_PTY_PROCESS_H_

#include <sys/types.h>

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace mambad::testing {

// Killed and reaped on destruction. Not thread-safe.
class PtyProcess {
 public:
  explicit PtyProcess(const std::vector<std::string>& argv);
  ~PtyProcess();
  PtyProcess(const PtyProcess&) = delete;
  PtyProcess& operator=(const PtyProcess&) = delete;

  // Presses keys: "\x03" is Ctrl-C, "\r" Enter.
  void Type(std::string_view keys);

  // Takes the terminal away; the program is told, and nothing more is shown.
  void HangUp();

  // Waits until `text` appears on the screen after all that earlier calls have passed; returns everything up
  // to and with it, or nothing when it did not come in time.
  std::optional<std::string> WaitFor(std::string_view text,
                                     std::chrono::milliseconds timeout = std::chrono::seconds(60));

  // The exit code (128 + n after signal n); nothing when the program still runs after `timeout`.
  std::optional<int> Wait(std::chrono::milliseconds timeout = std::chrono::seconds(60));

  // What was shown and no WaitFor has passed yet.
  const std::string& shown() const { return shown_; }

 private:
  bool Fill(std::chrono::milliseconds timeout);

  pid_t pid_ = -1;
  int terminal_ = -1;
  std::string shown_;
  std::optional<int> exit_code_;
};

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_PTY_PROCESS_H_
