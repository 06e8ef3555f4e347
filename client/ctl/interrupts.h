// Signals that end something as events: what they end is up to the verb.
//
// Threads: construct before any other thread exists (the signals are blocked in the caller and in all threads
// it starts); then any thread may call.
#ifndef MAMBAD_CLIENT_CTL_INTERRUPTS_H_
#define MAMBAD_CLIENT_CTL_INTERRUPTS_H_

#include <atomic>
#include <functional>
#include <initializer_list>
#include <mutex>
#include <thread>

namespace mambad::ctl {

class Interrupts {
 public:
  // Takes `signals`: SIGINT (Ctrl-C), and those that want the process to end. One of the latter that whoever
  // started the process ignores (nohup) stays ignored.
  explicit Interrupts(std::initializer_list<int> signals);
  ~Interrupts();
  Interrupts(const Interrupts&) = delete;
  Interrupts& operator=(const Interrupts&) = delete;

  // `action` answers every signal from now on, on a thread of this object's. Empty: it is kept for Take.
  // Returns when the previous action is not running.
  void SetAction(std::function<void(int signal)> action);

  // Readable while a kept signal waits.
  int pending_fd() const { return pending_fd_; }
  // Whether a signal was kept; forgets it.
  bool Take();

  // The signal that wants the process to end, acted upon or kept; 0 before there is one. The process dies of
  // a second SIGTERM at once; a hangup often comes twice, from the shell and from the terminal.
  int ending() const { return ending_; }

 private:
  void Watch();

  int signal_fd_;
  int stop_fd_;
  int pending_fd_;
  std::atomic<int> ending_ = 0;
  std::mutex mutex_;
  std::function<void(int)> action_;
  std::thread thread_;
};

// Ends the process the way that the unhandled signal does, so that a shell's loop ends too. Standard output
// is not flushed: its writer may be stuck.
[[noreturn]] void DieOf(int signal);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_INTERRUPTS_H_
