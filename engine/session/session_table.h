// SessionTable: the sessions by id, their states, and when they expire.
//
// An idle session expires when `ttl` has passed since its creation or its last request; one with an open
// request never does. Page tokens are opaque, are checked, and stay good when sessions come and go.
//
// Threads: one thread (the engine's).
// Errors: as in the table of session_verbs; texts never hold an id.
#ifndef MAMBAD_ENGINE_SESSION_SESSION_TABLE_H_
#define MAMBAD_ENGINE_SESSION_SESSION_TABLE_H_

#include <array>
#include <cstdint>
#include <map>
#include <memory>
#include <random>
#include <string>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/session/expiry_index.h"
#include "engine/session/session.h"
#include "engine/session_verbs.h"

namespace mambad {

class SessionTable {
 public:
  struct Options {
    uint32_t sessions_max = 0;
    absl::Duration ttl_default;
    uint64_t state_bytes = 0;  // of one session, for SessionInfo
    bool narrow_states = false;
    uint64_t seed = 0;  // of ids and nonces
  };

  explicit SessionTable(const Options& options);

  // Whether such a session may be added: INVALID_ARGUMENT (session_id, session.labels, session.ttl,
  // session.state_seed), ALREADY_EXISTS, or RESOURCE_EXHAUSTED when sessions_max exist; the caller adds
  // RetryInfo.
  absl::Status MayInsert(const CreateSessionRequest& request) const;
  // REQUIRES: MayInsert(request).ok().
  Session& Insert(const CreateSessionRequest& request, StateSlot slot, absl::Time now);
  // NOT_FOUND when there is none.
  absl::StatusOr<Session*> Find(const std::string& id) const;
  void Erase(Session& session);
  Session* First() { return sessions_.empty() ? nullptr : sessions_.begin()->second.get(); }
  // INVALID_ARGUMENT (page_token, page_size).
  absl::StatusOr<SessionPage> List(const ListSessionsRequest& request) const;

  // A request opens and closes; both start the ttl anew. REQUIRES: none is open; one is.
  void Open(Session& session, RequestTicket request);
  void Close(Session& session, absl::Time now);
  void SetState(Session& session, SessionState state);

  // An idle session whose time has come, or null.
  Session* FindExpired(absl::Time now);
  absl::Time NextExpiry() const { return expiry_.Earliest(); }

  SessionInfo Info(const Session& session) const;
  size_t size() const { return sessions_.size(); }
  const std::array<uint64_t, kSessionStateCount>& count_by_state() const { return count_by_state_; }

 private:
  std::string NewId();

  const Options options_;
  std::mt19937_64 random_;
  std::map<std::string, std::unique_ptr<Session>> sessions_;
  ExpiryIndex<std::string> expiry_;
  std::array<uint64_t, kSessionStateCount> count_by_state_{};
};

// Whether `id` is 1 to 128 characters of [a-z0-9._-] that start with a letter or digit.
bool IsSessionId(const std::string& id);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_SESSION_TABLE_H_
