#include "server/generation_call.h"

#include <atomic>
#include <random>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "engine/error.h"
#include "server/log.h"

namespace mambad {
namespace {

// A Score's answer is known only at its end, so what would not fit into one message is refused at its start.
constexpr size_t kScoreTokensMax = 131072;
// Deltas that may wait for one reader before its session is paused.
constexpr size_t kSinkCapacity = 128;
// The client's own timer cancels the call a moment before the server's clock says that its deadline passed.
constexpr absl::Duration kDeadlineSlack = absl::Milliseconds(20);

// Unlikely to repeat across restarts, never within one.
std::string NewRequestId() {
  static const uint32_t process = std::random_device()();
  static std::atomic<uint64_t> count{0};
  return absl::StrCat("req-", absl::Hex(process, absl::kZeroPad8), "-", ++count);
}

double Milliseconds(absl::Duration duration) { return absl::ToDoubleMilliseconds(duration); }

}  // namespace

GenerationCall::GenerationCall(Backend* backend, Method method, const grpc::CallbackServerContext& context)
    : backend_(backend), method_(method), arrival_(absl::Now()), deadline_(backend->DeadlineOf(context)) {}

void GenerationCall::Begin(std::shared_ptr<const Serving> serving, absl::StatusOr<PendingRequest> parsed) {
  serving_ = std::move(serving);
  if (!parsed.ok()) return Refuse(parsed.status());
  pending_ = *std::move(parsed);
  if (const absl::Status status = ValidatePending(pending_, engine().limits()); !status.ok()) {
    return Refuse(status);
  }
  GenerationRequest& request = pending_.request;
  if (request.request_id.empty()) request.request_id = NewRequestId();
  request.arrival = arrival_;
  request.deadline = deadline_;
  request_id_ = request.request_id;
  session_id_ = request.session_id;
  view_ = ViewOf(request.output, *serving_);
  last_delta_.assign(request.candidate_count, absl::InfinitePast());
  Tokenize();
}

void GenerationCall::Refuse(const absl::Status& status) {
  if (serving_ != nullptr) engine().RecordRejection(method_, status.code());
  Log(LogLevel::kDebug, "request refused",
      {{"method", MethodName(method_)},
       {"code", absl::StatusCodeToString(status.code())},
       {"reason", DetailOf(status).reason}});
  OnRefused(status);
}

void GenerationCall::Tokenize() {
  if (!pending_.has_text()) return Submit();
  if (session_id_.empty() || !serving_->adds_special_tokens) return TokenizeAndSubmit(session_id_.empty());
  engine().GetSession(session_id_, deadline_,
                      [self = shared_from_this()](absl::StatusOr<SessionInfo> session) {
                        self->backend_->Deliver([self, session = std::move(session)] {
                          if (!session.ok()) return self->Refuse(session.status());
                          // The template is right at position 0 alone, which a session never comes back to.
                          GenerationRequest& request = self->pending_.request;
                          const bool at_start = session->position == 0;
                          self->pinned_ = at_start && !request.expect_position.has_value();
                          if (self->pinned_) request.expect_position = 0;
                          self->TokenizeAndSubmit(at_start);
                        });
                      });
}

void GenerationCall::TokenizeAndSubmit(bool at_start) {
  const auto job = [self = shared_from_this(), at_start] {
    const absl::Status status = TokenizePending(*self->serving_->tokenizer(), at_start, &self->pending_);
    if (!status.ok()) return self->Refuse(status);
    self->Submit();
  };
  if (pending_.text_bytes() <= kInlineTextBytes) return job();
  if (!backend_->PostTokenizing(job)) Refuse(TokenizingQueueFull());
}

void GenerationCall::Submit() {
  if (pending_.request.score_text.size() > kScoreTokensMax) {
    return Refuse(InvalidField("text", absl::StrCat("must be at most ", kScoreTokensMax, " tokens")));
  }
  sink_ = std::make_shared<TokenSink>(kSinkCapacity, [weak = weak_from_this()] {
    if (const std::shared_ptr<GenerationCall> self = weak.lock()) self->Schedule();
  });
  const absl::StatusOr<RequestTicket> ticket = engine().Submit(std::move(pending_.request), sink_);
  if (!ticket.ok()) return OnRefused(Verdict(ticket.status()));
  absl::Status abandoned;
  {
    const std::lock_guard lock(mu_);
    ticket_ = *ticket;
    abandoned = abandoned_;
  }
  if (!abandoned.ok()) engine().Cancel(*ticket, abandoned);
}

void GenerationCall::Schedule() {
  backend_->Deliver([self = shared_from_this()] { self->OnEvents(); });
}

void GenerationCall::OnClientCancel() {
  // gRPC also cancels a call whose deadline passed; the engine knows the deadline and says so.
  if (absl::Now() + kDeadlineSlack < deadline_) Abandon(absl::CancelledError("the client went away"));
}

void GenerationCall::Abandon(const absl::Status& status) {
  RequestTicket ticket = 0;
  {
    const std::lock_guard lock(mu_);
    abandoned_.Update(status);
    ticket = ticket_;
  }
  if (ticket != 0) engine().Cancel(ticket, status);
}

absl::Status GenerationCall::Verdict(const absl::Status& status) const {
  if (!pinned_ || DetailOf(status).reason != reason::kPositionMismatch) return status;
  return MakeError(absl::StatusCode::kAborted, "another request went first on the session",
                   {.reason = reason::kSessionBusy});
}

void GenerationCall::RecordDelta(uint32_t candidate, uint64_t tokens) {
  const absl::Time now = absl::Now();
  if (!time_to_first_token_.has_value()) {
    time_to_first_token_ = now - arrival_;
    engine().RecordTimeToFirstToken(*time_to_first_token_);
  }
  absl::Time& last = last_delta_[candidate];
  if (last != absl::InfinitePast() && tokens > 0) {
    engine().RecordInterTokenLatency((now - last) / static_cast<double>(tokens), tokens);
  }
  if (tokens > 0) last = now;
}

void GenerationCall::RecordEnd(const EndEvent& end, const absl::Status& status) {
  nlohmann::ordered_json fields = {{"request_id", request_id_},
                                   {"method", MethodName(method_)},
                                   {"code", absl::StatusCodeToString(status.code())}};
  if (!session_id_.empty()) fields["session"] = session_id_;
  if (const std::string reason = DetailOf(status).reason; !reason.empty()) fields["reason"] = reason;
  fields["input_tokens"] = end.usage.input_tokens;
  fields["output_tokens"] = end.usage.output_tokens;
  fields["queue_ms"] = Milliseconds(queue_time_);
  if (time_to_first_token_.has_value()) fields["ttft_ms"] = Milliseconds(*time_to_first_token_);
  fields["total_ms"] = Milliseconds(absl::Now() - arrival_);
  Log(LogLevel::kInfo, "request finished", fields);
}

}  // namespace mambad
