#include "client/ctl/conversation.h"

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"

namespace mambad::ctl {
namespace {

// A cancelled turn ends within a tick of the engine; a server that needs longer than this is in other
// trouble.
constexpr absl::Duration kRefreshPeriod = absl::Milliseconds(10);
constexpr int kRefreshTries = 300;

}  // namespace

absl::Status Conversation::Enter(const absl::StatusOr<v1::Session>& session, bool opened_here) {
  if (!session.ok()) return session.status();
  session_ = session->name();
  position_ = session->position();
  if (opened_here) opened_here_.insert(session_);
  return absl::OkStatus();
}

absl::Status Conversation::Open(std::string_view id) {
  v1::CreateSessionRequest request;
  request.set_session_id(std::string(id));
  request.mutable_session()->set_model(options_.model);
  *request.mutable_session()->mutable_ttl() = ToProto(options_.ttl);
  return Enter(client_.CreateSession(request, options_.call), /*opened_here=*/true);
}

absl::Status Conversation::Fork(std::string_view id) {
  v1::ForkSessionRequest request;
  request.set_name(session_);
  request.set_session_id(std::string(id));
  return Enter(client_.ForkSession(request, options_.call), /*opened_here=*/true);
}

absl::Status Conversation::Switch(std::string_view id) {
  return Enter(client_.GetSession(SessionName(id), options_.call), /*opened_here=*/false);
}

absl::Status Conversation::Turn(std::string_view words, const SamplingFlags& sampling,
                                const std::function<void(const v1::StreamGenerateResponse&)>& on_event) {
  v1::GenerateRequest request;
  if (absl::Status status = sampling.Apply(request); !status.ok()) return status;
  request.set_model(options_.model);
  request.set_session(session_);
  request.set_expect_position(position_);
  if (!words.empty()) {
    *request.mutable_prompt() =
        TextPrompt(absl::StrCat(position_ > 0 ? options_.before : "", std::string(words), options_.after));
  }

  {
    std::lock_guard lock(mutex_);
    cancelled_ = false;
  }
  GenerateStream stream = client_.StreamGenerate(request, options_.call);
  {
    std::lock_guard lock(mutex_);
    running_ = &stream;
    if (cancelled_) stream.Cancel();
  }
  bool finished = false;
  for (const v1::StreamGenerateResponse& event : stream) {
    on_event(event);
    if (event.has_finished()) {
      position_ = event.finished().usage().session_position();
      finished = true;
    }
  }
  {
    std::lock_guard lock(mutex_);
    running_ = nullptr;
  }
  // The turn's own status says more than that of a failed question.
  if (!finished) Refresh().IgnoreError();
  return stream.status();
}

absl::Status Conversation::Refresh() {
  for (int i = 0; i < kRefreshTries; ++i) {
    const absl::StatusOr<v1::Session> session = client_.GetSession(session_, options_.call);
    if (!session.ok()) return session.status();
    position_ = session->position();
    if (session->state() == v1::Session::IDLE) return absl::OkStatus();
    absl::SleepFor(kRefreshPeriod);
  }
  return absl::DeadlineExceededError("the session is still busy");
}

void Conversation::Cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  if (running_ != nullptr) running_->Cancel();
}

void Conversation::Close() {
  if (options_.keep) return;
  for (const std::string& name : opened_here_) {
    v1::DeleteSessionRequest request;
    request.set_name(name);
    request.set_allow_missing(true);
    // A session that cannot be deleted now expires by its ttl.
    client_.DeleteSession(request, options_.call).IgnoreError();
  }
  opened_here_.clear();
}

}  // namespace mambad::ctl
