#include "client/ctl/interrupts.h"

#include <poll.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <utility>

namespace mambad::ctl {
namespace {

constexpr int kExitOfSignal = 128;

sigset_t InterruptSet() {
  sigset_t set;
  sigemptyset(&set);
  sigaddset(&set, SIGINT);
  return set;
}

void Post(int fd) {
  const uint64_t one = 1;
  // Fails only when the counter is full: it is readable then.
  [[maybe_unused]] const ssize_t written = write(fd, &one, sizeof(one));
}

}  // namespace

Interrupts::Interrupts()
    : stop_fd_(eventfd(0, EFD_CLOEXEC)), pending_fd_(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) {
  const sigset_t set = InterruptSet();
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

void Interrupts::SetAction(std::function<void()> action) {
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
    std::lock_guard lock(mutex_);
    if (action_ != nullptr) {
      action_();
    } else {
      Post(pending_fd_);
    }
  }
}

void DieOfInterrupt() {
  std::fflush(nullptr);
  signal(SIGINT, SIG_DFL);
  const sigset_t set = InterruptSet();
  pthread_sigmask(SIG_UNBLOCK, &set, nullptr);
  raise(SIGINT);
  _exit(kExitOfSignal + SIGINT);
}

}  // namespace mambad::ctl
