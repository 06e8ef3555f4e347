#include "tests/support/pty_process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include "kernels/base/check.h"

namespace mambad::testing {
namespace {

using Clock = std::chrono::steady_clock;
constexpr std::chrono::milliseconds kPoll{5};  // waitpid has no timeout

// In the child: makes `slave` the controlling terminal and runs the program. Only calls that are safe after
// fork.
[[noreturn]] void Exec(const char* slave, char* const* argv, char* const* environment) {
  setsid();
  const int terminal = open(slave, O_RDWR);
  ioctl(terminal, TIOCSCTTY, 0);
  dup2(terminal, STDIN_FILENO);
  dup2(terminal, STDOUT_FILENO);
  dup2(terminal, STDERR_FILENO);
  execvpe(argv[0], argv, environment);
  _exit(127);
}

}  // namespace

PtyProcess::PtyProcess(const std::vector<std::string>& argv) {
  terminal_ = posix_openpt(O_RDWR | O_NOCTTY | O_CLOEXEC);
  MAMBAD_CHECK(terminal_ >= 0 && grantpt(terminal_) == 0 && unlockpt(terminal_) == 0);
  std::array<char, 128> slave{};
  MAMBAD_CHECK(ptsname_r(terminal_, slave.data(), slave.size()) == 0);
  const winsize size{.ws_row = 24, .ws_col = 200, .ws_xpixel = 0, .ws_ypixel = 0};
  ioctl(terminal_, TIOCSWINSZ, &size);

  std::vector<char*> arguments;
  for (const std::string& argument : argv) arguments.push_back(const_cast<char*>(argument.c_str()));
  arguments.push_back(nullptr);
  std::string term = "TERM=xterm";
  std::vector<char*> environment = {term.data()};
  for (char** entry = environ; *entry != nullptr; ++entry) {
    if (!std::string_view(*entry).starts_with("TERM=") && !std::string_view(*entry).starts_with("NO_COLOR="))
      environment.push_back(*entry);
  }
  environment.push_back(nullptr);

  pid_ = fork();
  MAMBAD_CHECK(pid_ >= 0);
  if (pid_ == 0) Exec(slave.data(), arguments.data(), environment.data());
}

PtyProcess::~PtyProcess() {
  if (!exit_code_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  HangUp();
}

void PtyProcess::HangUp() {
  if (terminal_ >= 0) close(terminal_);
  terminal_ = -1;
}

void PtyProcess::Type(std::string_view keys) {
  MAMBAD_CHECK(write(terminal_, keys.data(), keys.size()) == static_cast<ssize_t>(keys.size()));
}

bool PtyProcess::Fill(std::chrono::milliseconds timeout) {
  pollfd waiting{.fd = terminal_, .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, static_cast<int>(timeout.count())) <= 0) return false;
  std::array<char, 4096> chunk{};
  const ssize_t count = read(terminal_, chunk.data(), chunk.size());
  if (count <= 0) return false;  // the program has gone
  shown_.append(chunk.data(), static_cast<size_t>(count));
  return true;
}

std::optional<std::string> PtyProcess::WaitFor(std::string_view text, std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  for (;;) {
    if (const size_t at = shown_.find(text); at != std::string::npos) {
      std::string passed = shown_.substr(0, at + text.size());
      shown_.erase(0, at + text.size());
      return passed;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0 || !Fill(left)) return std::nullopt;
  }
}

std::optional<int> PtyProcess::Wait(std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  while (!exit_code_) {
    int status = 0;
    if (waitpid(pid_, &status, WNOHANG) == pid_) {
      exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (Clock::now() >= deadline) {
      break;
    } else if (!Fill(kPoll)) {  // a full terminal would block the program
      poll(nullptr, 0, static_cast<int>(kPoll.count()));
    }
  }
  while (Fill(std::chrono::milliseconds(0))) {
  }
  return exit_code_;
}

}  // namespace mambad::testing
