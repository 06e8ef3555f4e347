// Scheduler: the policy of who starts, and of what one tick computes. Pure: no device, clock, thread or I/O;
// its answers depend on its arguments and on the queue alone, and never change a result, only its time.
//
// Admission. The queue is ordered by priority (higher first), then arrival. A request starts when all slots
// that it needs are free at once; a later one that fits may pass a first one that does not, at most
// kOvertakesMax times; from then on free slots are kept for the first one. What runs ends, so slots come
// back and the first one starts: among equal priorities nobody starves. Sessions hold their slots for good,
// so a request that needs more slots than the sessions leave is refused instead of waiting for ever. A
// session that is created or forked counts as an overtaking and is refused where a request would be.
//
// Plan. Decode rows first; where more are ready than one tick takes, those that waited longest. Then prompt
// chunks: half of the budget of a pass to the prompt that was admitted first, the rest to the shortest
// remaining ones, what is left over to the first again. So the oldest prompt ends after at most 2 * tokens /
// budget passes, whatever arrives (no starvation), and a short prompt never waits for the end of a long one.
// A pass is run in parts (layers), beside decoding rows a few a tick: tokens of a prompt stay many, so that
// weights are read seldom, and streams wait for a part instead of a pass.
//
// Threads: not synchronized.
#ifndef MAMBAD_ENGINE_SCHEDULE_SCHEDULER_H_
#define MAMBAD_ENGINE_SCHEDULE_SCHEDULER_H_

#include <cstdint>
#include <map>
#include <span>
#include <utility>
#include <vector>

#include "absl/time/time.h"
#include "engine/request.h"

namespace mambad {

struct WaitingRequest {
  RequestTicket ticket = 0;
  int32_t priority = 0;
  uint32_t slots = 0;  // it needs at once: candidates, or the second slot of a session's turn
};

class Scheduler {
 public:
  static constexpr uint32_t kOvertakesMax = 16;

  // REQUIRES: tickets ascend from call to call (they are the order of arrival).
  void Enqueue(const WaitingRequest& request);
  void Remove(const WaitingRequest& request);

  struct Admission {
    std::vector<RequestTicket> admitted;
    std::vector<RequestTicket> refused;  // need more than `slots_to_share`
  };
  // Takes out of the queue what starts now. `free_slots` of the pool are free; `slots_to_share` are not held
  // by a session's own state.
  Admission Admit(uint32_t free_slots, uint32_t slots_to_share);

  // Whether a new session may take one of `free_slots`; if so, it counts as taken.
  bool TakeSlotForSession(uint32_t free_slots);

  size_t size() const { return queue_.size(); }
  uint64_t waiting_slots() const { return waiting_slots_; }

 private:
  struct Entry {
    RequestTicket ticket;
    uint32_t slots;
    uint32_t overtaken = 0;
  };
  using Key = std::pair<int64_t, RequestTicket>;  // (-priority, ticket)

  static Key KeyOf(const WaitingRequest& request) { return {-int64_t{request.priority}, request.ticket}; }

  std::map<Key, Entry> queue_;
  uint64_t waiting_slots_ = 0;  // sum over the queue
};

struct ReadyRow {
  uint32_t id = 0;
  uint64_t last_planned = 0;  // tick
};
// The ids to step now: all of them, or the `rows_max` that waited longest (ties: the earlier in `ready`).
std::vector<uint32_t> PlanDecode(std::span<const ReadyRow> ready, uint32_t rows_max);

// Prompt tokens of one pass, of which `affordable` can be read in good time: at least an eighth of `budget`,
// and at least 1.
uint32_t PromptBudget(uint32_t budget, uint32_t affordable);

// How many tokens go into a given time, from what the last passes took. Recent and large chunks weigh most.
class TokenRate {
 public:
  void Observe(uint32_t tokens, absl::Duration wall);
  // 0 while nothing was observed; UINT32_MAX for an infinite time.
  uint32_t TokensIn(absl::Duration wall) const;

 private:
  double tokens_ = 0;  // decaying sums
  double seconds_ = 0;
};

// How long a part of a prompt pass takes, from the parts that ran last.
class PartTime {
 public:
  // REQUIRES: tokens and parts are not 0.
  void Observe(uint32_t tokens, uint32_t parts, absl::Duration wall);
  // Of a pass of `tokens`: as long as the last, longer in proportion if it has more tokens. Infinite while
  // nothing was observed.
  absl::Duration Expect(uint32_t tokens) const;

 private:
  uint32_t tokens_ = 0;
  absl::Duration part_ = absl::InfiniteDuration();
};

// How many of the `left` parts of a pass to run now so that it goes on evenly, about `time` a tick (up to a
// quarter more spares a tick), where a part takes `part`; at least 1.
uint32_t PlanParts(uint32_t left, absl::Duration part, absl::Duration time);

// `remaining[i]`: unread tokens of the i-th prompt, in order of admission. Returns how many of each to read
// now; their sum is min(budget, sum of remaining).
std::vector<uint32_t> PlanPrompts(std::span<const uint64_t> remaining, uint32_t budget);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_SCHEDULER_H_
