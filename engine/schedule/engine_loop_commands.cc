// The commands of EngineLoop: submitting, cancelling, draining and the session verbs.
#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/schedule/engine_loop.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

absl::Status LateVerb() {
  return MakeError(absl::StatusCode::kDeadlineExceeded, "the deadline passed before the request was taken up",
                   {});
}

absl::Status PoisonedSession() {
  return MakeError(absl::StatusCode::kInternal,
                   "the state of this session became non-finite; delete the session",
                   {.reason = reason::kStatePoisoned});
}

}  // namespace

bool EngineLoop::TakeCommands() {
  Mailbox::Taken taken = mailbox_.TakeAll();
  for (Command& command : taken.commands) {
    std::visit([this](auto& each) { Handle(std::move(each)); }, command);
  }
  for (Mailbox::Cancellation& cancel : taken.cancels) {
    const auto entry = open_.find(cancel.ticket);
    if (entry == open_.end()) continue;
    Interrupt(*entry->second, std::move(cancel.status));
  }
  return !taken.commands.empty() || !taken.cancels.empty();
}

void EngineLoop::Handle(SubmitCommand command) {
  const RequestTicket ticket = command.ticket;
  auto owned = std::make_unique<OpenRequest>(ticket, std::move(command.request), std::move(command.sink),
                                             command.accepted_at);
  OpenRequest& request = *owned;
  open_.emplace(ticket, std::move(owned));
  if (device_lost_) return EndRequest(request, DeviceLostError(absl::StatusCode::kUnavailable));
  if (drain_deadline_) return EndRequest(request, DrainingError());
  request.slots_needed = request.request.candidate_count;
  if (!request.request.session_id.empty()) {
    absl::Status status = OpenOnSession(request);
    if (status.ok()) status = CheckPredictedStart(Load(), request.slots_needed, request.request, now_);
    if (!status.ok()) return EndRequest(request, std::move(status));
  }
  request.queued = true;
  scheduler_.Enqueue(request.waiting());
  SetTimer(request);
  if (request.request.max_queue_time) {
    queue_timers_.Set(ticket, request.queued_at + *request.request.max_queue_time);
  }
}

absl::Status EngineLoop::OpenOnSession(OpenRequest& request) {
  const GenerationRequest& wanted = request.request;
  MAMBAD_ASSIGN_OR_RETURN(Session * session, sessions_.Find(wanted.session_id));
  if (session->poisoned) return PoisonedSession();
  if (session->request != 0) {
    return MakeError(absl::StatusCode::kAborted, "another request runs on this session",
                     {.reason = reason::kSessionBusy});
  }
  if (wanted.expect_position && *wanted.expect_position != session->position) {
    return MakeError(
        absl::StatusCode::kAborted, "the session is at another position",
        {.reason = reason::kPositionMismatch, .metadata = {{"position", absl::StrCat(session->position)}}});
  }
  const bool continues = request.generates() && wanted.prompt.empty();
  if (continues && session->position == 0) {
    return InvalidField("prompt", "must hold at least one token at position 0");
  }
  const bool in_own_slot = wanted.method != Method::kScore && (continues || session->position == 0);
  request.slots_needed = in_own_slot ? 0 : 1;
  request.session = session;
  sessions_.Open(*session, request.ticket);
  SetSessionState(request);
  return absl::OkStatus();
}

void EngineLoop::Handle(CreateCommand command) {
  if (now_ >= command.deadline) return command.done(LateVerb());
  absl::StatusOr<Session*> session = AddSession(command.request, nullptr);
  if (!session.ok()) return command.done(session.status());
  command.done(sessions_.Info(**session));
}

void EngineLoop::Handle(GetCommand command) {
  if (now_ >= command.deadline) return command.done(LateVerb());
  absl::StatusOr<Session*> session = sessions_.Find(command.request.id);
  if (!session.ok()) return command.done(session.status());
  command.done(sessions_.Info(**session));
}

void EngineLoop::Handle(ListCommand command) {
  if (now_ >= command.deadline) return command.done(LateVerb());
  command.done(sessions_.List(command.request));
}

void EngineLoop::Handle(DeleteCommand command) {
  if (now_ >= command.deadline) return command.done(LateVerb());
  command.done(Delete(command.request));
}

void EngineLoop::Handle(ForkCommand command) {
  if (now_ >= command.deadline) return command.done(LateVerb());
  command.done(Fork(command.request));
}

void EngineLoop::Handle(DrainCommand command) {
  drain_deadline_ = std::min(drain_deadline_.value_or(command.deadline), command.deadline);
  drained_.push_back(std::move(command.drained));
  std::vector<OpenRequest*> waiting;
  for (const auto& [ticket, request] : open_) {
    if (request->phase == OpenRequest::Phase::kWaiting) waiting.push_back(request.get());
  }
  for (OpenRequest* request : waiting) EndRequest(*request, DrainingError());
}

// A new session with a slot of its own: empty, or a copy of `source` as of its last completed step.
absl::StatusOr<Session*> EngineLoop::AddSession(const CreateSessionRequest& request, const Session* source) {
  if (device_lost_) return DeviceLostError(absl::StatusCode::kUnavailable);
  if (drain_deadline_ || stopping_) return DrainingError();
  if (absl::Status status = sessions_.MayInsert(request); !status.ok()) {
    return absl::IsResourceExhausted(status) ? NoFreeSlot() : status;
  }
  if (!scheduler_.TakeSlotForSession(pool_->free())) return NoFreeSlot();
  const bool copy = source != nullptr && !source->slot_in_use;
  absl::StatusOr<StateSlot> slot =
      copy ? pool_->AllocateCopy(source->slot) : pool_->Allocate(request.state_seed);
  if (!slot.ok()) {
    LoseDevice(slot.status());
    return DeviceLostError(absl::StatusCode::kUnavailable);
  }
  Session& session = sessions_.Insert(request, *std::move(slot), now_);
  if (source != nullptr) session.position = source->position;
  return &session;
}

absl::StatusOr<SessionInfo> EngineLoop::Delete(const DeleteSessionRequest& request) {
  absl::StatusOr<Session*> found = sessions_.Find(request.id);
  if (!found.ok()) {
    if (request.allow_missing) return SessionInfo{.id = request.id};
    return found.status();
  }
  Session& session = **found;
  SessionInfo info = sessions_.Info(session);
  if (!request.etag.empty() && request.etag != info.etag) {
    return MakeError(absl::StatusCode::kAborted, "the session has changed",
                     {.reason = reason::kEtagMismatch});
  }
  if (session.request != 0) {
    session.deleted = true;
    EndRequest(*open_.at(session.request), MakeError(absl::StatusCode::kCancelled, "the session was deleted",
                                                     {.reason = reason::kSessionNotFound}));
  }
  sessions_.Erase(session);
  return info;
}

absl::StatusOr<SessionInfo> EngineLoop::Fork(const ForkSessionRequest& request) {
  // Before the source: the loss has poisoned those that it left half undone.
  if (device_lost_) return DeviceLostError(absl::StatusCode::kUnavailable);
  MAMBAD_ASSIGN_OR_RETURN(const Session* source, sessions_.Find(request.source_id));
  if (source->poisoned) return PoisonedSession();
  MAMBAD_ASSIGN_OR_RETURN(
      const Session* fork,
      AddSession(
          {.id = request.id, .labels = source->labels, .ttl = source->ttl, .state_seed = source->state_seed},
          source));
  return sessions_.Info(*fork);
}

absl::Status EngineLoop::NoFreeSlot() const {
  return MakeError(absl::StatusCode::kResourceExhausted, "no state slot is free",
                   {.reason = reason::kNoFreeSlot, .retry_after = ledger_.RetryAfter()});
}

}  // namespace mambad
