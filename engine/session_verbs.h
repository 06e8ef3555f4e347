// The requests and answers of the session verbs, as plain structs.
#ifndef MAMBAD_ENGINE_SESSION_VERBS_H_
#define MAMBAD_ENGINE_SESSION_VERBS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "absl/time/time.h"

namespace mambad {

enum class SessionState { kIdle, kWaiting, kPrefilling, kDecoding, kPaused };
inline constexpr int kSessionStateCount = 5;
const char* SessionStateName(SessionState state);  // "IDLE", ...

// What is known of a session at one tick. `position` of a session in its prompt phase is the one at the start
// of the turn, since the turn may still be undone.
struct SessionInfo {
  std::string id;
  uint64_t position = 0;  // tokens consumed so far
  SessionState state = SessionState::kIdle;
  bool exact = true;  // lived under the current numerics id from its first token on
  std::map<std::string, std::string> labels;
  std::optional<absl::Duration> ttl;
  absl::Time expire_time = absl::InfiniteFuture();
  absl::Time create_time;
  std::string etag;    // changes whenever position, labels or ttl do
  uint64_t bytes = 0;  // of its state
  uint64_t state_seed = 0;
};

// id: 1 to 128 characters of [a-z0-9._-], starting with a letter or digit; empty: the engine makes one.
// ttl: idle time after which the session expires, in [1 s, 365 d]; each turn starts it anew. none: the
// engine's default. labels: at most 32; keys 1 to 63 characters, values at most 63. state_seed: of the random
// rounding of a bf16 state; it stays with the state, and so with forks. 0 where states are not rounded.
struct CreateSessionRequest {
  std::string id;
  std::map<std::string, std::string> labels;
  std::optional<absl::Duration> ttl;
  uint64_t state_seed = 0;
};

struct ForkSessionRequest {
  std::string source_id;
  std::string id;  // as in CreateSessionRequest
};

struct DeleteSessionRequest {
  std::string id;
  std::string etag;  // empty: whatever it is
  bool allow_missing = false;
};

struct ListSessionsRequest {
  uint32_t page_size = 0;  // 0: 100; above 1000: 1000
  std::string page_token;
};

struct SessionPage {
  std::vector<SessionInfo> sessions;  // ordered by id
  std::string next_page_token;        // empty: the last page
};

using SessionDone = std::function<void(absl::StatusOr<SessionInfo>)>;
using SessionPageDone = std::function<void(absl::StatusOr<SessionPage>)>;

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_VERBS_H_
