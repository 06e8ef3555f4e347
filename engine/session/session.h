// Session: a conversation whose recurrent state lives in a slot of its own.
//
// Invariant at every end of a tick: `slot` has consumed exactly `position` tokens, unless `slot_in_use` (the
// first turn, in its prompt phase, works in the session's own slot: then its state is the empty one).
#ifndef MAMBAD_ENGINE_SESSION_SESSION_H_
#define MAMBAD_ENGINE_SESSION_SESSION_H_

#include <cstdint>
#include <map>
#include <string>

#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/session/state_pool.h"
#include "engine/session_verbs.h"

namespace mambad {

struct Session {
  // Constant after creation.
  std::string id;
  std::map<std::string, std::string> labels;
  absl::Duration ttl;
  absl::Time create_time;
  uint64_t state_seed = 0;  // what the empty state begins with (StatePool)
  uint64_t nonce = 0;       // tells this session from a later one of the same id

  absl::Time expire_time;
  StateSlot slot;
  uint64_t position = 0;
  bool slot_in_use = false;
  bool poisoned = false;      // the state is non-finite; only Delete and Get answer
  bool deleted = false;       // it goes as soon as its request has ended
  RequestTicket request = 0;  // the one open request; 0: none

  // Changed by SessionTable alone, which counts them.
  SessionState state = SessionState::kIdle;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_SESSION_H_
