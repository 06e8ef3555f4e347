// Mailbox: how other threads reach the engine thread. Commands wait in order until the next tick takes them
// all; cancels are kept apart, so that they can never be refused.
//
// Bounds: requests are bounded by the ledger's queue limits before they get here, verbs by kVerbsMax, cancels
// by one per open request.
//
// Threads: safe on any; TakeAll, awake and WaitUntil belong to the engine thread. Held by shared_ptr, because
// a reader may wake it after the engine has gone.
#ifndef MAMBAD_ENGINE_SCHEDULE_MAILBOX_H_
#define MAMBAD_ENGINE_SCHEDULE_MAILBOX_H_

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <variant>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/session_verbs.h"
#include "engine/token_sink.h"

namespace mambad {

struct SubmitCommand {
  RequestTicket ticket = 0;
  GenerationRequest request;
  std::shared_ptr<TokenSink> sink;
  absl::Time accepted_at;
};

template <class Request, class Done>
struct VerbCommand {
  Request request;
  absl::Time deadline;
  Done done;
};
struct GetSessionRequest {
  std::string id;
};
using CreateCommand = VerbCommand<CreateSessionRequest, SessionDone>;
using GetCommand = VerbCommand<GetSessionRequest, SessionDone>;
using ListCommand = VerbCommand<ListSessionsRequest, SessionPageDone>;
using DeleteCommand = VerbCommand<DeleteSessionRequest, SessionDone>;
using ForkCommand = VerbCommand<ForkSessionRequest, SessionDone>;

struct DrainCommand {
  absl::Time deadline;
  std::function<void()> drained;
};

using Command = std::variant<SubmitCommand, CreateCommand, GetCommand, ListCommand, DeleteCommand,
                             ForkCommand, DrainCommand>;

class Mailbox {
 public:
  static constexpr size_t kVerbsMax = 4096;

  // A new ticket whose request is now open, and in the queue. None after GiveUp.
  std::optional<RequestTicket> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink,
                                      absl::Time now);
  // False when kVerbsMax commands wait, and after GiveUp: then `command` is untouched.
  bool PostVerb(Command&& command);
  void PostDrain(DrainCommand command);
  // Ignored unless the ticket is open and was not cancelled yet. REQUIRES: status is not OK.
  void Cancel(RequestTicket ticket, absl::Status status);
  void Wake();

  struct Cancellation {
    RequestTicket ticket;
    absl::Status status;
  };
  struct Taken {
    std::deque<Command> commands;
    std::vector<Cancellation> cancels;
  };
  Taken TakeAll();
  // Whether anything was posted, or Wake called, since the last TakeAll.
  bool awake();
  // The request ends: later cancels are ignored. False: GiveUp has ended it.
  bool Close(RequestTicket ticket);
  // Sleeps until something is posted, Wake is called, or `time` has come. What was posted before the call
  // counts.
  void WaitUntil(absl::Time time);

  struct Open {
    Method method;
    std::shared_ptr<TokenSink> sink;
    bool taken = false;
    bool cancelled = false;
  };
  struct GivenUp {
    std::vector<Open> open;
    std::deque<Command> commands;  // those of open requests that were not taken among them
    std::deque<Command> taken;     // the verbs that were taken last, answered or not
  };
  // The engine thread hangs: whoever calls this ends what was open and answers the commands that wait.
  // Nothing is taken from now on.
  GivenUp GiveUp();
  bool given_up() const;

 private:
  mutable std::mutex mu_;
  std::condition_variable changed_;
  bool awake_ = false;                             // guarded by mu_
  RequestTicket last_ticket_ = 0;                  // guarded by mu_
  std::deque<Command> commands_;                   // guarded by mu_
  size_t verbs_ = 0;                               // guarded by mu_; among commands_
  std::deque<Command> taken_;                      // guarded by mu_; the verbs of the last TakeAll
  std::vector<Cancellation> cancels_;              // guarded by mu_
  absl::flat_hash_map<RequestTicket, Open> open_;  // guarded by mu_
  bool given_up_ = false;                          // guarded by mu_
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_MAILBOX_H_
