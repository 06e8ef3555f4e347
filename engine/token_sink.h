// TokenSink: the bounded ring between the engine and whoever reads a request's events. Pushing never blocks;
// a full ring makes the engine pause the request (it keeps its slots and is not planned) until there is room
// again.
//
// Bound: at most `capacity` PromptLogprobs and Delta events wait at a time (capacity is raised to what one
// tick of the request may push: two Deltas per candidate, of two steps, and one PromptLogprobs). Started,
// Finished, Scored and End always fit (at most 3 + candidate_count of them exist per request), so the end of
// a request is never lost.
//
// Threads: Attach, HasRoom and Push belong to the engine; Pop to one reader at a time, on any thread; GiveUp
// to any. The callbacks run outside the lock: `on_ready` on the thread that pushed into an empty ring,
// `on_room` on the reader's thread. Neither may block. The engine holds the sink from Submit to the End
// event.
#ifndef MAMBAD_ENGINE_TOKEN_SINK_H_
#define MAMBAD_ENGINE_TOKEN_SINK_H_

#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <optional>

#include "engine/token_event.h"

namespace mambad {

class TokenSink {
 public:
  // REQUIRES: capacity > 0. `on_ready` may be empty.
  TokenSink(size_t capacity, std::function<void()> on_ready);
  TokenSink(const TokenSink&) = delete;
  TokenSink& operator=(const TokenSink&) = delete;

  // Engine side. Called once, by Submit, before the first Push. `events_per_tick`: the most Deltas and
  // PromptLogprobs that one tick pushes. `on_room` is called after a Pop that made the room that the last
  // HasRoom asked for in vain.
  void Attach(size_t events_per_tick, std::function<void()> on_room);
  // Whether `events` more Deltas and PromptLogprobs fit. REQUIRES: events <= events_per_tick.
  bool HasRoom(size_t events);
  // REQUIRES: HasRoom(1), or an event that always fits; nothing after End.
  void Push(TokenEvent event);
  // The End of a request whose engine hangs; what that pushes later is dropped. REQUIRES: no End yet.
  void GiveUp(EndEvent end);

  // Reader side. The oldest event, or none.
  std::optional<TokenEvent> Pop();

 private:
  // Whether the ring was empty. REQUIRES: mu_ is held.
  bool Append(TokenEvent event);

  const std::function<void()> on_ready_;

  std::mutex mu_;
  std::function<void()> on_room_;  // guarded by mu_
  std::deque<TokenEvent> events_;  // guarded by mu_
  size_t capacity_;                // guarded by mu_
  size_t bounded_ = 0;             // guarded by mu_; Deltas and PromptLogprobs in events_
  size_t wanted_ = 0;              // guarded by mu_; room that the engine waits for, 0: none
  bool ended_ = false;             // guarded by mu_
  bool given_up_ = false;          // guarded by mu_
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TOKEN_SINK_H_
