// Ledger: every count that the engine reports, behind one lock, so that a copy is consistent: accepted =
// finished + running + waiting at any time. It also keeps what Submit must know without asking the engine
// thread: how full the queue is, how long it is likely to take, whether the engine accepts at all.
//
// Threads: safe on any.
#ifndef MAMBAD_ENGINE_SCHEDULE_LEDGER_H_
#define MAMBAD_ENGINE_SCHEDULE_LEDGER_H_

#include <array>
#include <cstdint>
#include <mutex>
#include <optional>
#include <span>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/stats.h"

namespace mambad {

// How loaded the pool is, as of the last tick.
struct SlotLoad {
  uint32_t free = 0;
  uint32_t running = 0;                        // held by requests, and so coming back
  uint64_t waiting = 0;                        // wanted by requests in the queue
  std::optional<absl::Duration> service_time;  // mean time that a request holds its slots; none: not known
};

// How long a request that needs `slots` now waits for them: the slots missing, divided by the rate at which
// running requests give theirs back. None while nothing was measured.
std::optional<absl::Duration> PredictWait(const SlotLoad& load, uint32_t slots);

// DEADLINE_EXCEEDED + RetryInfo when `request`, which needs `slots`, is too late already or by its predicted
// start.
absl::Status CheckPredictedStart(const SlotLoad& load, uint32_t slots, const GenerationRequest& request,
                                 absl::Time now);

class Ledger {
 public:
  Ledger(uint32_t queue_requests_max, uint64_t queue_tokens_max, uint32_t state_slots, uint64_t slot_bytes);

  // Accepts `request` into the queue, or refuses it: UNAVAILABLE (lost device, draining), RESOURCE_EXHAUSTED
  // + RetryInfo (queue full), DEADLINE_EXCEEDED (too late already, or by the predicted start). How many slots
  // a session's turn needs is the engine thread's to know: it predicts for that one.
  absl::Status Accept(const GenerationRequest& request, absl::Time now);
  void Reject(Method method, absl::StatusCode code);
  void SetDraining();
  void SetDeviceLost();
  bool draining() const;
  bool device_lost() const;

  // Waiting to running.
  void Start(absl::Duration queue_time);
  // `tokens` of an accepted request are no longer kept: its prompt has been read, or it has ended.
  void ReleaseTokens(uint64_t tokens);
  // Waiting or running to finished.
  void Finish(Method method, bool was_running, absl::StatusCode code, absl::Duration duration);
  void FinishCandidate(FinishReason reason);
  // Waiting or running to finished, for one request each, while the engine thread hangs: what that says of
  // them later changes nothing, and what is left counts as waiting.
  struct GivenUp {
    Method method;
    absl::StatusCode code;
  };
  void GiveUp(std::span<const GivenUp> requests);

  // What one forward pass did. A decode step that ran ahead may have advanced no row.
  void CountDecode(uint64_t rows, uint64_t tokens_emitted, absl::Duration wall);
  void CountPrefill(uint64_t prompt_tokens, uint64_t tokens_emitted, absl::Duration wall);

  // The gauges, as of the end of the tick at `now`.
  void Publish(const SlotLoad& load, uint32_t slots_used,
               const std::array<uint64_t, kSessionStateCount>& sessions, absl::Time now);

  void RecordTimeToFirstToken(absl::Duration latency);
  void RecordInterTokenLatency(absl::Duration latency, uint64_t tokens);

  // How long a caller who was refused for want of slots should wait.
  absl::Duration RetryAfter() const;
  absl::Time last_tick() const;
  EngineStats Stats() const;

 private:
  absl::Status Refuse(const GenerationRequest& request, absl::Time now) const;  // REQUIRES: mu_ is held

  const uint32_t queue_requests_max_;
  const uint64_t queue_tokens_max_;
  const uint64_t slot_bytes_;

  mutable std::mutex mu_;
  EngineStats stats_;                         // guarded by mu_
  SlotLoad load_;                             // guarded by mu_
  uint64_t tokens_ = 0;                       // guarded by mu_; of prompts that are kept
  bool draining_ = false;                     // guarded by mu_
  bool device_lost_ = false;                  // guarded by mu_
  bool given_up_ = false;                     // guarded by mu_
  absl::Time last_tick_ = absl::UnixEpoch();  // guarded by mu_
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_LEDGER_H_
