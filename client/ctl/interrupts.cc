#include "client/ctl/interrupts.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>
#include <utility>

namespace mambad::ctl {
namespace {

constexpr int kExitOfSignal = 128;

// A blocked signal would arrive even when it is ignored.
bool IsIgnored(int signal) {
  struct sigaction now {};
  return sigaction(signal, nullptr, &now) == 0 && now.sa_handler == SIG_IGN;
}

void Post(int fd) {
  const uint64_t one = 1;
  // Fails only when the counter is full: it is readable then.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof(one));
}

}  // namespace

Interrupts::Interrupts(std::initializer_list<int> signals)
    : stop_fd_(eventfd(0, EFD_CLOEXEC)), pending_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  sigset_t set;
  sigemptyset(&set);
  for (const int signal : signals) {
    if (signal == SIGINT || !IsIgnored(signal)) sigaddset(&set, signal);
  }
  pthread_sigmask(SIG_BLOCK, &set, nullptr);
  signal_fd_ = signalfd(-1, &set, SFD_CLOEXEC);
  thread_ = std::thread([this] { Watch(); });
}

Interrupts::~Interrupts() {
  Post(stop_fd_);
  thread_.join();
  close(signal_fd_);
  close(stop_fd_);
  close(pending_fd_);
}

void Interrupts::SetAction(std::function<void(int)> action) {
  std::lock_guard lock(mutex_);
  action_ = std::move(action);
}

bool Interrupts::Take() {
  uint64_t count = 0;
  return read(pending_fd_, &count, sizeof(count)) == sizeof(count);
}

void Interrupts::Watch() {
  for (;;) {
    pollfd fds[] = {{signal_fd_, POLLIN, 0}, {stop_fd_, POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) continue;
    if (fds[1].revents != 0) return;
    signalfd_siginfo info;
    if (read(signal_fd_, &info, sizeof(info)) != sizeof(info)) continue;
    const int signal = static_cast<int>(info.ssi_signo);
    if (signal == SIGTERM && ending_ == SIGTERM) DieOf(signal);
    if (signal != SIGINT && ending_ != SIGTERM) ending_ = signal;
    std::lock_guard lock(mutex_);
    if (action_ != nullptr) {
      action_(signal);
    } else {
      Post(pending_fd_);
    }
  }
}

void DieOf(int signal) {
  ::signal(signal, SIG_DFL);
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, signal);
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(signal);
  _exit(kExitOfSignal + signal);
}

}  // namespace mambad::ctl
