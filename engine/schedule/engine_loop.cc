// Life and end of a request; engine_loop_commands.cc takes the commands, engine_loop_forward.cc runs the
// decode rows, engine_loop_prompts.cc the prompts, engine_loop_ahead.cc runs steps ahead.
#include "engine/schedule/engine_loop.h"

#include <algorithm>
#include <iterator>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

// Each finished request moves the mean service time by this share of its distance.
constexpr double kServiceTimeWeight = 0.125;

}  // namespace

EngineLoop::EngineLoop(Model& model, const Tokenizer* tokenizer, const EngineOptions& options,
                       std::unique_ptr<StatePool> pool, Mailbox& mailbox, Ledger& ledger)
    : model_(model),
      tokenizer_(tokenizer),
      options_(options),
      narrow_(model.state_layout().narrow()),
      mailbox_(mailbox),
      ledger_(ledger),
      pool_(std::move(pool)),
      sessions_({.sessions_max = options.sessions_max,
                 .ttl_default = options.session_ttl_default,
                 .state_bytes = pool_->slot_bytes(),
                 .narrow_states = narrow_,
                 .seed = options.seed}),
      seeds_(~options.seed) {}

EngineLoop::~EngineLoop() { MAMBAD_CHECK(open_.empty() && sessions_.size() == 0 && pool_->used() == 0); }

TickReport EngineLoop::Tick(absl::Time now) {
  now_ = now;
  ++tick_;
  worked_ = false;
  if (mailbox_.given_up()) LoseDevice(absl::UnavailableError("it came back too late"));
  uint32_t decode_rows = 0;
  if (step_) {
    decode_rows = CollectStep(/*follow=*/true);
    if (step_) return Publish(decode_rows, 0);
  }
  ExpireSessions();  // first: what has expired is not found by any command
  if (TakeCommands()) worked_ = true;
  EndLate();
  AdvanceDrain();
  Admit();
  EndWaitedTooLong();
  decode_rows += RunDecode(decode_rows);
  const uint32_t prompt_tokens = RunPrompts();
  return Publish(decode_rows, prompt_tokens);
}

void EngineLoop::Stop(absl::Time now) {
  now_ = now;
  stopping_ = true;
  if (step_) (void)model_.Collect(&results_);  // its slots are about to go
  step_.reset();
  TakeCommands();
  const absl::Status stopped = absl::UnavailableError("the server is stopping");
  while (!open_.empty()) EndRequest(*open_.begin()->second, stopped);
  AdvanceDrain();
  while (Session* session = sessions_.First()) sessions_.Erase(*session);
  Publish(0, 0);
}

absl::StatusOr<std::vector<std::byte>> EngineLoop::ReadState(const std::string& session_id) {
  if (step_) CollectStep(/*follow=*/false);
  MAMBAD_ASSIGN_OR_RETURN(Session * session, sessions_.Find(session_id));
  return pool_->Read(session->slot);
}

// The caller's deadline has passed, or the slow reader's.
void EngineLoop::EndLate() {
  while (const std::optional<RequestTicket> ticket = timers_.PopDue(now_)) {
    OpenRequest& request = *open_.at(*ticket);
    if (now_ >= request.request.deadline) {
      Interrupt(request, MakeError(absl::StatusCode::kDeadlineExceeded, "the deadline passed", {}));
    } else {
      Interrupt(request,
                MakeError(absl::StatusCode::kResourceExhausted, "the reader of the stream was too slow",
                          {.reason = reason::kSlowReader, .retry_after = ledger_.RetryAfter()}));
    }
  }
}

void EngineLoop::EndWaitedTooLong() {
  while (const std::optional<RequestTicket> ticket = queue_timers_.PopDue(now_)) {
    EndRequest(*open_.at(*ticket),
               MakeError(absl::StatusCode::kDeadlineExceeded, "max_queue_time passed",
                         {.reason = reason::kQueueTimeExceeded, .retry_after = ledger_.RetryAfter()}));
  }
}

void EngineLoop::ExpireSessions() {
  while (Session* session = sessions_.FindExpired(now_)) sessions_.Erase(*session);
}

void EngineLoop::AdvanceDrain() {
  if (!drain_deadline_) return;
  if (now_ >= *drain_deadline_ && !open_.empty()) {
    std::vector<OpenRequest*> running;
    for (const auto& [ticket, request] : open_) running.push_back(request.get());
    for (OpenRequest* request : running) Interrupt(*request, DrainingError());
  }
  if (!open_.empty()) return;
  for (const std::function<void()>& drained : std::exchange(drained_, {})) {
    if (drained) drained();
  }
}

// Ends a request for its caller's sake: at once, or after the step that makes its session whole.
void EngineLoop::Interrupt(OpenRequest& request, absl::Status status) {
  if (request.closing) return;  // its closing step ends it, as it already had to
  if (request.phase == OpenRequest::Phase::kDecode && request.session != nullptr) {
    request.closing = true;
    request.verdict = std::move(status);
    return;
  }
  EndRequest(request, std::move(status));
}

void EngineLoop::EndRequest(OpenRequest& request, absl::Status status) {
  MAMBAD_CHECK(!request.ended);
  request.ended = true;
  EndEvent end = {.status = std::move(status), .usage = UsageOf(request), .session = std::nullopt};
  const bool was_running = request.phase != OpenRequest::Phase::kWaiting;
  if (was_running) {
    std::erase(prompts_, &request);
    std::erase(decoding_, &request);
    const absl::Duration service = now_ - request.admitted_at;
    service_time_ =
        service_time_ ? *service_time_ + kServiceTimeWeight * (service - *service_time_) : service;
  } else if (request.queued) {
    scheduler_.Remove(request.waiting());
  }
  LeavePass(request);
  request.slots.clear();
  if (Session* session = request.session) {
    if (std::exchange(session->slot_in_use, false) && !pool_->Zero(session->slot, session->state_seed).ok()) {
      session->poisoned = true;
    }
    sessions_.Close(*session, now_);
    if (!session->deleted) end.session = sessions_.Info(*session);
    request.session = nullptr;
  }
  timers_.Erase(request.ticket);
  queue_timers_.Erase(request.ticket);
  ReleasePrompt(request);
  if (mailbox_.Close(request.ticket)) {
    ledger_.Finish(request.request.method, was_running, end.status.code(), now_ - request.request.arrival);
    request.sink->Push(std::move(end));
  }
  const auto entry = open_.find(request.ticket);
  ended_.push_back(std::move(entry->second));
  open_.erase(entry);
}

void EngineLoop::LoseDevice(const absl::Status& status) {
  if (std::exchange(device_lost_, true)) return;
  step_.reset();
  pass_.reset();
  ledger_.SetDeviceLost();
  Log(absl::StrCat("the device was lost: ", std::string(status.message())));
  while (!open_.empty()) {
    OpenRequest& request = *open_.begin()->second;
    const bool ran = request.phase != OpenRequest::Phase::kWaiting;
    EndRequest(request, DeviceLostError(ran ? absl::StatusCode::kInternal : absl::StatusCode::kUnavailable));
  }
}

void EngineLoop::Admit() {
  const auto slots_to_share = static_cast<uint32_t>(pool_->slots() - sessions_.size());
  const Scheduler::Admission admission = scheduler_.Admit(pool_->free(), slots_to_share);
  for (const RequestTicket ticket : admission.admitted) open_.at(ticket)->queued = false;
  for (const RequestTicket ticket : admission.refused) {
    OpenRequest& request = *open_.at(ticket);
    request.queued = false;
    EndRequest(request, NoFreeSlot());
  }
  for (const RequestTicket ticket : admission.admitted) {
    if (absl::Status status = Start(*open_.at(ticket)); !status.ok()) return LoseDevice(status);
  }
  if (absl::Status status = pool_->Synchronize(); !status.ok()) LoseDevice(status);
}

absl::Status EngineLoop::Start(OpenRequest& request) {
  const GenerationRequest& wanted = request.request;
  const absl::Duration queue_time = now_ - request.queued_at;
  request.phase = OpenRequest::Phase::kPrompt;
  request.admitted_at = now_;
  ledger_.Start(queue_time);
  prompts_.push_back(&request);
  MAMBAD_RETURN_IF_ERROR(TakeSlots(request));

  const uint64_t seed = wanted.sampling.seed ? *wanted.sampling.seed : seeds_();
  request.reader.emplace(wanted, request.session == nullptr ? 0 : request.session->position);
  if (request.generates()) {
    request.candidates.reserve(wanted.candidate_count);
    for (uint32_t i = 0; i < wanted.candidate_count; ++i) {
      request.candidates.emplace_back(wanted, i, seed, tokenizer_, model_.info().eos_token_ids,
                                      static_cast<uint32_t>(model_.info().vocab_size));
    }
    request.last_planned.assign(wanted.candidate_count, 0);
  }
  queue_timers_.Erase(request.ticket);
  SetSessionState(request);
  request.sink->Push(StartedEvent{.seed = seed, .queue_time = queue_time, .cached_input_tokens = 0});
  return absl::OkStatus();
}

absl::Status EngineLoop::TakeSlots(OpenRequest& request) {
  Session* session = request.session;
  if (session == nullptr) {
    for (uint32_t i = 0; i < request.slots_needed; ++i) {
      MAMBAD_ASSIGN_OR_RETURN(StateSlot slot, pool_->Allocate());
      request.slots.push_back(std::move(slot));
    }
  } else if (request.slots_needed > 0) {
    MAMBAD_ASSIGN_OR_RETURN(StateSlot slot, session->position > 0 ? pool_->AllocateCopy(session->slot)
                                                                  : pool_->Allocate(session->state_seed));
    request.slots.push_back(std::move(slot));
  } else {
    session->slot_in_use = session->position == 0;
  }
  return absl::OkStatus();
}

bool EngineLoop::HasRoom(OpenRequest& request, size_t events) {
  const bool room = request.sink->HasRoom(events);
  if (room == request.paused()) {
    request.paused_since = room ? absl::InfiniteFuture() : now_;
    SetTimer(request);
    SetSessionState(request);
  }
  return room;
}

Usage EngineLoop::UsageOf(const OpenRequest& request) const {
  Usage usage;
  if (request.reader) usage.input_tokens = request.reader->tokens_read();
  for (const Candidate& candidate : request.candidates) usage.output_tokens += candidate.output_tokens();
  if (request.session != nullptr) usage.session_position = request.session->position;
  return usage;
}

void EngineLoop::SetTimer(OpenRequest& request) {
  absl::Time due = request.request.deadline;
  if (request.paused()) due = std::min(due, request.paused_since + options_.stall_timeout);
  timers_.Set(request.ticket, due);
}

void EngineLoop::SetSessionState(OpenRequest& request) {
  if (request.session == nullptr) return;
  SessionState state = SessionState::kWaiting;
  if (request.paused()) {
    state = SessionState::kPaused;
  } else if (request.phase == OpenRequest::Phase::kPrompt) {
    state = SessionState::kPrefilling;
  } else if (request.phase == OpenRequest::Phase::kDecode) {
    state = SessionState::kDecoding;
  }
  sessions_.SetState(*request.session, state);
}

void EngineLoop::Log(const std::string& line) const {
  if (options_.log) options_.log(line);
}

SlotLoad EngineLoop::Load() const {
  return {.free = pool_->free(),
          .running = static_cast<uint32_t>(pool_->used() - sessions_.size()),
          .waiting = scheduler_.waiting_slots(),
          .service_time = service_time_};
}

TickReport EngineLoop::Publish(uint32_t decode_rows, uint32_t prompt_tokens) {
  if (step_) std::ranges::move(ended_, std::back_inserter(step_->ended));
  ended_.clear();
  ledger_.Publish(Load(), pool_->used(), sessions_.count_by_state(), now_);
  TickReport report;
  report.decode_rows = decode_rows;
  report.prompt_tokens = prompt_tokens;
  report.idle = !worked_;
  report.next_event = std::min({timers_.Earliest(), queue_timers_.Earliest(), sessions_.NextExpiry()});
  if (drain_deadline_ && !open_.empty()) report.next_event = std::min(report.next_event, *drain_deadline_);
  return report;
}

}  // namespace mambad
