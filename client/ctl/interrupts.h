// Ctrl-C as an event: what it ends is up to the verb.
//
// Threads: construct before any other thread exists (SIGINT is blocked in the caller and in all threads it
// starts); then any thread may call.
#ifndef MAMBAD_CLIENT_CTL_INTERRUPTS_H_
#define MAMBAD_CLIENT_CTL_INTERRUPTS_H_

#include <functional>
#include <mutex>
#include <thread>

namespace mambad::ctl {

class Interrupts {
 public:
  Interrupts();
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // `action` answers every Ctrl-C from now on, on a thread of this object's. Empty: Ctrl-C is kept for Take.
  // Returns when the previous action is not running.
  void SetAction(std::function<void()> action);

  // Readable while a kept Ctrl-C waits.
  int pending_fd() const { return pending_fd_; }
  // Whether a Ctrl-C was kept; forgets it.
  bool Take();

 private:
  void Watch();

  int signal_fd_;
  int stop_fd_;
  int pending_fd_;
  std::mutex mutex_;
  std::function<void()> action_;
  std::thread thread_;
};

// Ends the process the way that an unhandled Ctrl-C does, so that a shell's loop ends too.
[[noreturn]] void DieOfInterrupt();

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_INTERRUPTS_H_
