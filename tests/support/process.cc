#include "tests/support/process.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <fstream>
#include <iterator>
#include <thread>
#include <utility>

#include "kernels/base/check.h"

namespace mambad::testing {
namespace {

using Clock = std::chrono::steady_clock;

constexpr std::chrono::hours kForever{24};

std::vector<char*> Pointers(const std::vector<std::string>& strings) {
  std::vector<char*> pointers;
  for (const std::string& string : strings) pointers.push_back(const_cast<char*>(string.c_str()));
  pointers.push_back(nullptr);
  return pointers;
}

std::vector<std::string> Environment(const std::vector<std::string>& added) {
  std::vector<std::string> all;
  for (char** entry = environ; *entry != nullptr; ++entry) all.emplace_back(*entry);
  all.insert(all.end(), added.begin(), added.end());
  return all;
}

// In the child: only calls that are safe after a fork of a process with threads.
[[noreturn]] void Exec(int in, int out, int err, char* const* argv, char* const* environment) {
  dup2(in, STDIN_FILENO);
  dup2(out, STDOUT_FILENO);
  dup2(err, STDERR_FILENO);
  execvpe(argv[0], argv, environment);
  _exit(127);
}

}  // namespace

Process::Process(const std::vector<std::string>& argv, const std::vector<std::string>& environment) {
  signal(SIGPIPE, SIG_IGN);  // Write reports a closed pipe
  std::array<int, 2> in{};
  std::array<int, 2> out{};
  MAMBAD_CHECK(pipe2(in.data(), O_CLOEXEC) == 0 && pipe2(out.data(), O_CLOEXEC) == 0);
  errors_path_ = "/tmp/mambad-test-stderr-XXXXXX";
  const int errors = mkostemp(errors_path_.data(), O_CLOEXEC);
  MAMBAD_CHECK(errors >= 0);
  const std::vector<std::string> all = Environment(environment);
  const std::vector<char*> arguments = Pointers(argv);
  const std::vector<char*> variables = Pointers(all);
  pid_ = fork();
  MAMBAD_CHECK(pid_ >= 0);
  if (pid_ == 0) {
    signal(SIGPIPE, SIG_DFL);
    Exec(in[0], out[1], errors, arguments.data(), variables.data());
  }
  close(in[0]);
  close(out[1]);
  close(errors);
  input_ = in[1];
  output_ = out[0];
}

Process::~Process() {
  if (!exit_code_) {
    kill(pid_, SIGKILL);
    waitpid(pid_, nullptr, 0);
  }
  CloseInput();
  close(output_);
  unlink(errors_path_.c_str());
}

bool Process::Write(std::string_view input) {
  while (!input.empty()) {
    const ssize_t written = write(input_, input.data(), input.size());
    if (written < 0 && errno == EINTR) continue;
    if (written < 0) return false;
    input.remove_prefix(static_cast<size_t>(written));
  }
  return true;
}

void Process::CloseInput() {
  if (input_ >= 0) close(input_);
  input_ = -1;
}

bool Process::Fill(std::chrono::milliseconds timeout) {
  pollfd waiting{.fd = output_, .events = POLLIN, .revents = 0};
  if (poll(&waiting, 1, static_cast<int>(timeout.count())) <= 0) return false;
  std::array<char, 4096> chunk{};
  const ssize_t count = read(output_, chunk.data(), chunk.size());
  if (count <= 0) return false;
  buffer_.append(chunk.data(), static_cast<size_t>(count));
  return true;
}

std::optional<std::string> Process::ReadLine(std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  for (;;) {
    if (const size_t end = buffer_.find('\n'); end != std::string::npos) {
      std::string line = buffer_.substr(0, end);
      buffer_.erase(0, end + 1);
      return line;
    }
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now());
    if (left.count() <= 0) return std::nullopt;
    if (!Fill(left)) break;
  }
  if (buffer_.empty() || Clock::now() >= deadline) return std::nullopt;
  return std::exchange(buffer_, {});
}

std::string Process::ReadAll() {
  while (Fill(kForever)) {
  }
  return std::exchange(buffer_, {});
}

void Process::Signal(int signal) {
  if (!exit_code_) kill(pid_, signal);
}

std::optional<int> Process::Wait(std::chrono::milliseconds timeout) {
  const Clock::time_point deadline = Clock::now() + timeout;
  while (!exit_code_) {
    int status = 0;
    const pid_t ended = waitpid(pid_, &status, WNOHANG);
    if (ended == pid_) {
      exit_code_ = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
    } else if (Clock::now() >= deadline) {
      break;
    } else {
      std::this_thread::sleep_for(std::chrono::milliseconds(2));  // waitpid has no timeout
    }
  }
  return exit_code_;
}

std::string Process::Errors() const {
  std::ifstream in(errors_path_, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

ProcessResult RunProcess(const std::vector<std::string>& argv, std::string_view input,
                         const std::vector<std::string>& environment) {
  Process process(argv, environment);
  process.Write(input);
  process.CloseInput();
  ProcessResult result;
  result.out = process.ReadAll();
  result.exit_code = process.Wait(kForever).value_or(-1);
  result.err = process.Errors();
  return result;
}

}  // namespace mambad::testing
