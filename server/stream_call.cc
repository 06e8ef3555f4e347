#include "server/stream_call.h"

#include <utility>
#include <variant>

#include "absl/status/statusor.h"
#include "server/grpc_status.h"

namespace mambad {
namespace {

// Tokens that one message carries at most, so that a reader that lags still gets messages of a usual size.
constexpr uint64_t kTokensPerMessageMax = 64;

bool SaysAnything(const v1::Delta& delta) {
  return !delta.text().empty() || delta.token_ids_size() > 0 || delta.logprobs_size() > 0;
}

}  // namespace

grpc::ServerWriteReactor<v1::StreamGenerateResponse>* StreamCall::Start(Backend* backend,
                                                                        grpc::CallbackServerContext* context,
                                                                        const v1::GenerateRequest& request) {
  const auto call = std::make_shared<StreamCall>(backend, *context);
  StreamCall* const reactor = call.get();
  reactor->KeepAlive(call);
  absl::StatusOr<std::shared_ptr<const Serving>> serving = backend->serving();
  if (!serving.ok()) {
    reactor->Refuse(serving.status());
  } else {
    reactor->Begin(*serving, FromProto(request, Method::kStreamGenerate, **serving));
  }
  return reactor;
}

void StreamCall::OnRefused(const absl::Status& status) { Finish(ToGrpcStatus(status)); }

void StreamCall::OnEvents() {
  const std::lock_guard lock(mu_);
  Pump();
}

void StreamCall::OnWriteDone(bool ok) {
  bool failed = false;
  {
    const std::lock_guard lock(mu_);
    writing_ = false;
    failed = !ok && !broken_;
    broken_ |= !ok;
    Pump();
  }
  if (failed) OnClientCancel();
}

void StreamCall::Pump() {
  if (writing_ || finished_ || !NextMessage()) return;
  if (response_.has_delta()) RecordDelta(delta_candidate_, delta_tokens_);
  delta_tokens_ = 0;
  writing_ = true;
  StartWrite(&response_);
}

std::optional<TokenEvent> StreamCall::NextEvent() {
  if (!ahead_.has_value()) return sink().Pop();
  return std::exchange(ahead_, std::nullopt);
}

bool StreamCall::NextMessage() {
  response_.Clear();
  while (std::optional<TokenEvent> event = NextEvent()) {
    if (const auto* end = std::get_if<EndEvent>(&*event)) {
      End(*end);
      return false;
    }
    if (broken_) continue;
    if (const auto* started = std::get_if<StartedEvent>(&*event)) {
      queue_time_ = started->queue_time;
      ToProto(*started, request_id(), response_.mutable_started());
      return true;
    }
    if (const auto* prompt = std::get_if<PromptLogprobsEvent>(&*event)) {
      ToProto(*prompt, view(), response_.mutable_prompt_logprobs());
      return true;
    }
    if (const auto* finished = std::get_if<FinishedEvent>(&*event)) {
      ToProto(*finished, response_.mutable_finished());
      return true;
    }
    if (const auto* delta = std::get_if<DeltaEvent>(&*event)) {
      delta_candidate_ = delta->candidate_index;
      delta_tokens_ += delta->token_ids.size();
      AppendToProto(*delta, view(), response_.mutable_delta());
      JoinDeltas();
      if (SaysAnything(response_.delta())) return true;
      response_.Clear();  // its text is held back; the tokens count towards the next message
    }
  }
  return false;
}

void StreamCall::JoinDeltas() {
  while (delta_tokens_ < kTokensPerMessageMax) {
    std::optional<TokenEvent> event = NextEvent();
    if (!event.has_value()) return;
    const auto* delta = std::get_if<DeltaEvent>(&*event);
    if (delta == nullptr || delta->candidate_index != delta_candidate_) {
      ahead_ = std::move(event);
      return;
    }
    delta_tokens_ += delta->token_ids.size();
    AppendToProto(*delta, view(), response_.mutable_delta());
  }
}

void StreamCall::End(const EndEvent& end) {
  finished_ = true;
  const absl::Status status = Verdict(end.status);
  RecordEnd(end, status);
  Finish(ToGrpcStatus(status));
}

}  // namespace mambad
