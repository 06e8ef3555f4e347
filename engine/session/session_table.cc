#include "engine/session/session_table.h"

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/error.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr size_t kIdBytesMax = 128;
constexpr size_t kLabelsMax = 32;
constexpr size_t kLabelBytesMax = 63;
constexpr absl::Duration kTtlMin = absl::Seconds(1);
constexpr absl::Duration kTtlMax = absl::Hours(24 * 365);
constexpr uint32_t kPageSizeDefault = 100;
constexpr uint32_t kPageSizeMax = 1000;
constexpr char kPageTokenPrefix[] = "p1";

bool IsAlphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }

absl::Status CheckLabels(const std::map<std::string, std::string>& labels) {
  if (labels.size() > kLabelsMax) return InvalidField("session.labels", "must have at most 32 entries");
  for (const auto& [key, value] : labels) {
    if (key.empty() || key.size() > kLabelBytesMax) {
      return InvalidField("session.labels", "must have keys of 1 to 63 characters");
    }
    if (value.size() > kLabelBytesMax) {
      return InvalidField("session.labels", "must have values of at most 63 characters");
    }
  }
  return absl::OkStatus();
}

// A token holds the last id of its page, so the next page is what lies behind that id, whether it still
// exists or not.
std::string PageToken(const std::string& last_id) {
  return absl::StrCat(kPageTokenPrefix, absl::BytesToHexString(last_id));
}

absl::StatusOr<std::string> LastIdOf(const std::string& page_token) {
  const size_t prefix = sizeof(kPageTokenPrefix) - 1;
  const bool plausible = page_token.size() > prefix && page_token.size() <= prefix + 2 * kIdBytesMax &&
                         page_token.size() % 2 == prefix % 2 &&
                         std::all_of(page_token.begin() + prefix, page_token.end(),
                                     [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f'); });
  if (plausible) {
    std::string id = absl::HexStringToBytes(page_token.substr(prefix));
    if (IsSessionId(id) && PageToken(id) == page_token) return id;
  }
  return InvalidField("page_token", "must be one that ListSessions gave");
}

}  // namespace

bool IsSessionId(const std::string& id) {
  return !id.empty() && id.size() <= kIdBytesMax && IsAlphanumeric(id.front()) &&
         std::all_of(id.begin(), id.end(),
                     [](char c) { return IsAlphanumeric(c) || c == '.' || c == '_' || c == '-'; });
}

SessionTable::SessionTable(const Options& options) : options_(options), random_(options.seed) {}

absl::Status SessionTable::MayInsert(const CreateSessionRequest& request) const {
  if (!request.id.empty() && !IsSessionId(request.id)) {
    return InvalidField("session_id",
                        "must be 1 to 128 characters of [a-z0-9._-], the first a letter or digit");
  }
  MAMBAD_RETURN_IF_ERROR(CheckLabels(request.labels));
  if (request.ttl && (*request.ttl < kTtlMin || *request.ttl > kTtlMax)) {
    return InvalidField("session.ttl", "must be in [1 s, 365 d]");
  }
  if (request.state_seed != 0 && !options_.narrow_states) {
    return InvalidField("session.state_seed", "must be 0: the states of this server are not rounded");
  }
  if (sessions_.contains(request.id)) {
    return MakeError(absl::StatusCode::kAlreadyExists, "a session of this id exists",
                     {.reason = reason::kSessionExists});
  }
  if (sessions_.size() >= options_.sessions_max) {
    return MakeError(absl::StatusCode::kResourceExhausted, "as many sessions exist as this server allows",
                     {.reason = reason::kNoFreeSlot});
  }
  return absl::OkStatus();
}

Session& SessionTable::Insert(const CreateSessionRequest& request, StateSlot slot, absl::Time now) {
  MAMBAD_CHECK(slot.held() && sessions_.size() < options_.sessions_max);
  auto session = std::make_unique<Session>();
  session->id = request.id.empty() ? NewId() : request.id;
  session->labels = request.labels;
  session->ttl = request.ttl.value_or(options_.ttl_default);
  session->create_time = now;
  session->state_seed = request.state_seed;
  session->nonce = random_();
  session->slot = std::move(slot);
  session->expire_time = now + session->ttl;
  expiry_.Set(session->id, session->expire_time);
  ++count_by_state_[static_cast<int>(session->state)];
  const auto [entry, inserted] = sessions_.emplace(session->id, std::move(session));
  MAMBAD_CHECK(inserted);
  return *entry->second;
}

absl::StatusOr<Session*> SessionTable::Find(const std::string& id) const {
  const auto entry = sessions_.find(id);
  if (entry == sessions_.end()) {
    return MakeError(absl::StatusCode::kNotFound, "no such session", {.reason = reason::kSessionNotFound});
  }
  return entry->second.get();
}

void SessionTable::Erase(Session& session) {
  MAMBAD_CHECK(session.request == 0);
  --count_by_state_[static_cast<int>(session.state)];
  expiry_.Erase(session.id);
  sessions_.erase(sessions_.find(session.id));
}

absl::StatusOr<SessionPage> SessionTable::List(const ListSessionsRequest& request) const {
  auto next = sessions_.begin();
  if (!request.page_token.empty()) {
    MAMBAD_ASSIGN_OR_RETURN(const std::string last_id, LastIdOf(request.page_token));
    next = sessions_.upper_bound(last_id);
  }
  const uint32_t wanted = request.page_size == 0 ? kPageSizeDefault : request.page_size;
  const uint32_t page_size = std::min(wanted, kPageSizeMax);
  SessionPage page;
  for (; next != sessions_.end() && page.sessions.size() < page_size; ++next) {
    page.sessions.push_back(Info(*next->second));
  }
  if (next != sessions_.end()) page.next_page_token = PageToken(page.sessions.back().id);
  return page;
}

void SessionTable::Open(Session& session, RequestTicket request) {
  MAMBAD_CHECK(session.request == 0 && request != 0);
  session.request = request;
  expiry_.Erase(session.id);
}

void SessionTable::Close(Session& session, absl::Time now) {
  MAMBAD_CHECK(session.request != 0);
  session.request = 0;
  SetState(session, SessionState::kIdle);
  session.expire_time = now + session.ttl;
  expiry_.Set(session.id, session.expire_time);
}

void SessionTable::SetState(Session& session, SessionState state) {
  --count_by_state_[static_cast<int>(session.state)];
  session.state = state;
  ++count_by_state_[static_cast<int>(session.state)];
}

Session* SessionTable::FindExpired(absl::Time now) {
  if (expiry_.Earliest() > now) return nullptr;
  return sessions_.find(*expiry_.PopDue(now))->second.get();
}

SessionInfo SessionTable::Info(const Session& session) const {
  return {.id = session.id,
          .position = session.position,
          .state = session.state,
          .exact = true,
          .labels = session.labels,
          .ttl = session.ttl,
          .expire_time = session.expire_time,
          .create_time = session.create_time,
          .etag = absl::StrFormat("%016x-%x", session.nonce, session.position),
          .bytes = options_.state_bytes,
          .state_seed = session.state_seed};
}

std::string SessionTable::NewId() {
  std::string id;
  do {
    id = absl::StrFormat("%016x%016x", random_(), random_());
  } while (sessions_.contains(id));
  return id;
}

}  // namespace mambad
