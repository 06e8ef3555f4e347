// TokenSink: the bounded ring between the engine and whoever reads a request's events. Pushing never blocks;
// a full ring makes the engine pause the session (it keeps its slot and is not planned) until there is room
// again.
//
// Bound: at most `capacity` PromptLogprobs and Delta events wait at a time. Started, Finished, Scored and End
// always fit (at most 3 + candidate_count of them exist per request), so the end of a request is never lost.
//
// Threads: Push and Full belong to the engine thread; Pop to one reader at a time, on any thread. The
// callbacks run outside the lock: `on_ready` on the engine thread after a push into an empty ring, `on_room`
// on the reader's thread after a pop that ended fullness. Neither may block. The engine holds the sink from
// Submit to the End event.
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

  // Engine side. Whether another Delta or PromptLogprobs would exceed the bound.
  bool Full() const;
  // REQUIRES: not Full(), or an event that always fits; nothing after End.
  void Push(TokenEvent event);
  // Called once, by Submit, before the first Push.
  void SetRoomListener(std::function<void()> on_room);

  // Reader side. The oldest event, or none.
  std::optional<TokenEvent> Pop();

 private:
  const size_t capacity_;
  const std::function<void()> on_ready_;

  mutable std::mutex mu_;
  std::function<void()> on_room_;  // guarded by mu_
  std::deque<TokenEvent> events_;  // guarded by mu_
  size_t bounded_ = 0;             // guarded by mu_; Deltas and PromptLogprobs in events_
  bool ended_ = false;             // guarded by mu_
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TOKEN_SINK_H_
