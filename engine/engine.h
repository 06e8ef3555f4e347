// Engine: the facade. Batches generation requests into a model that steps per-session recurrent states.
//
// One thread ticks: it alone touches device state, so state needs no locks. Start() runs that thread; a test
// or a benchmark that does not call Start() calls Tick(now) by hand, and then time is what it says it is.
//
// Promises: a request that was admitted holds its slots until it ends; every accepted request ends with
// exactly one End event; a row's tokens, logits and state depend on its own session alone; the engine never
// waits for a reader.
//
// Threads: every method but Tick may be called from any thread. Verb callbacks run on the engine thread (or
// inside Tick) and must not block or call back into Tick.
#ifndef MAMBAD_ENGINE_ENGINE_H_
#define MAMBAD_ENGINE_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/session_verbs.h"
#include "engine/stats.h"
#include "engine/token_sink.h"

namespace mambad {

class Model;
class Tokenizer;
struct TickReport;

struct EngineOptions {
  // State slots: 0 means as many as `state_memory_bytes` holds (at least 1, at most 65536).
  uint32_t state_slots = 0;
  uint64_t state_memory_bytes = 1ull << 30;
  // Sessions that may exist at a time: 0 means slots - max(1, slots / 8), so that stateless calls and the
  // second slot of a turn's way back always find room. Must stay below the slots.
  uint32_t sessions_max = 0;
  absl::Duration session_ttl_default = absl::Hours(24);

  uint32_t queue_requests_max = 1024;
  uint64_t queue_tokens_max = 1ull << 22;  // of all prompts that are not read to their end
  uint64_t prompt_tokens_max = 1ull << 21;

  uint32_t decode_rows_max = 512;
  // A pass takes prompt tokens through all layers. While requests decode, a tick runs as many of its layers
  // as take this share of the tick's time, and at least one, so that the time between a stream's tokens is
  // about that of its step by 1 / (1 - prompt_share), however long the prompts; but the head of prompts that
  // are scored token by token takes one tick. (0, 1]; 1: all of a pass at once.
  double prompt_share = 0.5;
  uint32_t prompt_tokens_per_pass = 1024;       // with decoding rows beside them
  uint32_t prompt_tokens_per_pass_idle = 1024;  // with none
  // A pass takes fewer tokens where it would last longer than this, steps between its parts included, going
  // by the measured rate, so that new prompts begin in time; never less than an eighth of the tokens above.
  absl::Duration prompt_time_per_pass = absl::Milliseconds(50);
  absl::Duration prompt_time_per_pass_idle = absl::Milliseconds(500);
  absl::Duration stall_timeout = absl::Seconds(30);  // a full sink ends its request after this
  // A tick that takes longer than this means that the device hangs: healthy turns false. 0: never.
  absl::Duration device_timeout = absl::Seconds(60);

  uint64_t seed = 0;  // of drawn seeds and session ids; 0: from the system's entropy
  std::function<void(const std::string& line)> log;  // one line per notable event; prompts are never logged
};

class Engine {
 public:
  // `tokenizer` may be null: then text is FAILED_PRECONDITION and Deltas carry token ids alone. Errors:
  // RESOURCE_EXHAUSTED naming need and budget when not even one slot fits; INVALID_ARGUMENT naming an option.
  static absl::StatusOr<std::unique_ptr<Engine>> Create(std::shared_ptr<Model> model,
                                                        std::shared_ptr<const Tokenizer> tokenizer,
                                                        EngineOptions options);
  virtual ~Engine() = default;  // Stops the thread; requests still open end with UNAVAILABLE.

  virtual void Start() = 0;
  virtual TickReport Tick(absl::Time now) = 0;  // REQUIRES: Start was not called

  // Accepts a request or refuses it at once: INVALID_ARGUMENT naming the field, RESOURCE_EXHAUSTED +
  // retry_after (queue), UNAVAILABLE (draining), DEADLINE_EXCEEDED (deadline or max_queue_time before the
  // predicted start). What depends on a session (NOT_FOUND, ABORTED, when its turn can start) comes as the
  // End event. After OK the sink gets every event up to End.
  virtual absl::StatusOr<RequestTicket> Submit(GenerationRequest request,
                                               std::shared_ptr<TokenSink> sink) = 0;
  // Ends a request with `status`, which its End event and the counts then carry. The tokens of the steps
  // under way, two at most, still come before; a turn of a session then takes one step more, which consumes
  // its last token. Ignored when the request is unknown, has ended, was cancelled before, or only has its
  // last token to consume. REQUIRES: status is not OK.
  virtual void Cancel(RequestTicket ticket,
                      absl::Status status = absl::CancelledError("the caller cancelled")) = 0;

  // Session verbs (AppendInput is a Submit with Method::kAppendInput). `done` is called exactly once. Each
  // ends with DEADLINE_EXCEEDED when no tick took it up by `deadline`.
  virtual void CreateSession(CreateSessionRequest request, absl::Time deadline, SessionDone done) = 0;
  virtual void GetSession(std::string id, absl::Time deadline, SessionDone done) = 0;
  virtual void ListSessions(ListSessionsRequest request, absl::Time deadline, SessionPageDone done) = 0;
  virtual void DeleteSession(DeleteSessionRequest request, absl::Time deadline, SessionDone done) = 0;
  virtual void ForkSession(ForkSessionRequest request, absl::Time deadline, SessionDone done) = 0;

  // Accepts nothing new from now on; what runs may finish until `deadline`, then ends with UNAVAILABLE.
  // Queued requests end with UNAVAILABLE at once. `drained` is called once, when no request is left.
  virtual void Drain(absl::Time deadline, std::function<void()> drained) = 0;

  virtual EngineStats Stats() const = 0;
  // What the server sees and the engine does not: refusals before Submit, and the reader's side of latency.
  virtual void RecordRejection(Method method, absl::StatusCode code) = 0;
  virtual void RecordTimeToFirstToken(absl::Duration latency) = 0;
  virtual void RecordInterTokenLatency(absl::Duration latency, uint64_t tokens) = 0;

  virtual const Model& model() const = 0;
  virtual const Tokenizer* tokenizer() const = 0;    // null: none
  virtual const EngineOptions& options() const = 0;  // with defaults resolved
  virtual RequestLimits limits() const = 0;
  virtual std::vector<MemoryAddend> MemoryLedger() const = 0;  // weights, state pool, workspace, queues, ...
  // False once the device failed (every open request has then ended), and while it hangs at `now`.
  virtual bool healthy(absl::Time now) const = 0;
  // Ends what a hanging device left open: every request with DEVICE_LOST and no usage, and every verb with
  // UNAVAILABLE. Nothing is accepted or delivered any more, even if the device comes back. No effect on a
  // second call.
  virtual void LoseDevice() = 0;
};

// What one turn of the loop did.
struct TickReport {
  uint32_t decode_rows = 0;  // that the step advanced whose tokens were delivered
  uint32_t prompt_tokens = 0;
  bool idle = true;                                // nothing was planned and no command was waiting
  absl::Time next_event = absl::InfiniteFuture();  // earliest deadline, expiry or stall timeout
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_ENGINE_H_
