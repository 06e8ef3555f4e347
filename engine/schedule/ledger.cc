#include "engine/schedule/ledger.h"

#include <algorithm>
#include <utility>

#include "engine/error.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr absl::Duration kRetryAfterUnknown = absl::Seconds(1);
constexpr absl::Duration kRetryAfterMin = absl::Milliseconds(100);
constexpr absl::Duration kRetryAfterMax = absl::Minutes(1);

absl::Duration RetryAfterOf(std::optional<absl::Duration> predicted) {
  return std::clamp(predicted.value_or(kRetryAfterUnknown), kRetryAfterMin, kRetryAfterMax);
}

uint64_t& CountOf(EngineStats::ByMethodAndCode& counts, Method method, absl::StatusCode code) {
  const auto index = static_cast<size_t>(code);
  MAMBAD_CHECK(index < kStatusCodeCount);
  return counts[static_cast<size_t>(method)][index];
}

}  // namespace

std::optional<absl::Duration> PredictWait(const SlotLoad& load, uint32_t slots) {
  const uint64_t wanted = load.waiting + slots;
  if (slots == 0 || wanted <= load.free) return absl::ZeroDuration();
  if (!load.service_time) return std::nullopt;
  return *load.service_time * (static_cast<double>(wanted - load.free) / std::max(1u, load.running));
}

absl::Status CheckPredictedStart(const SlotLoad& load, uint32_t slots, const GenerationRequest& request,
                                 absl::Time now) {
  const std::optional<absl::Duration> predicted = PredictWait(load, slots);
  const absl::Time start = now + predicted.value_or(absl::ZeroDuration());
  if (request.deadline <= start) {
    return MakeError(absl::StatusCode::kDeadlineExceeded, "the deadline lies before the predicted start",
                     {.reason = reason::kDeadlineTooShort, .retry_after = RetryAfterOf(predicted)});
  }
  if (request.max_queue_time && start - now > *request.max_queue_time) {
    return MakeError(absl::StatusCode::kDeadlineExceeded, "max_queue_time is shorter than the predicted wait",
                     {.reason = reason::kQueueTimeExceeded, .retry_after = RetryAfterOf(predicted)});
  }
  return absl::OkStatus();
}

Ledger::Ledger(uint32_t queue_requests_max, uint64_t queue_tokens_max, uint32_t state_slots,
               uint64_t slot_bytes)
    : queue_requests_max_(queue_requests_max), queue_tokens_max_(queue_tokens_max), slot_bytes_(slot_bytes) {
  stats_.state_slots = state_slots;
  load_.free = state_slots;
}

absl::Status Ledger::Accept(const GenerationRequest& request, absl::Time now) {
  std::lock_guard lock(mu_);
  if (absl::Status status = Refuse(request, now); !status.ok()) {
    ++CountOf(stats_.requests_rejected, request.method, status.code());
    return status;
  }
  ++stats_.requests_accepted;
  ++stats_.requests_waiting;
  tokens_ += request.input_tokens();
  return absl::OkStatus();
}

absl::Status Ledger::Refuse(const GenerationRequest& request, absl::Time now) const {
  if (device_lost_) return DeviceLostError(absl::StatusCode::kUnavailable);
  if (draining_) return DrainingError();
  const std::optional<absl::Duration> predicted = PredictWait(load_, request.candidate_count);
  if (stats_.requests_waiting >= queue_requests_max_ ||
      request.input_tokens() > queue_tokens_max_ - tokens_) {
    return MakeError(absl::StatusCode::kResourceExhausted, "the queue is full",
                     {.reason = reason::kQueueFull, .retry_after = RetryAfterOf(predicted)});
  }
  const uint32_t slots = request.session_id.empty() ? request.candidate_count : 0;
  return CheckPredictedStart(load_, slots, request, now);
}

void Ledger::Reject(Method method, absl::StatusCode code) {
  std::lock_guard lock(mu_);
  ++CountOf(stats_.requests_rejected, method, code);
}

void Ledger::SetDraining() {
  std::lock_guard lock(mu_);
  draining_ = true;
}

void Ledger::SetDeviceLost() {
  std::lock_guard lock(mu_);
  device_lost_ = true;
}

bool Ledger::draining() const {
  std::lock_guard lock(mu_);
  return draining_;
}

bool Ledger::device_lost() const {
  std::lock_guard lock(mu_);
  return device_lost_;
}

void Ledger::Start(absl::Duration queue_time) {
  std::lock_guard lock(mu_);
  if (given_up_) return;
  MAMBAD_CHECK(stats_.requests_waiting > 0);
  --stats_.requests_waiting;
  ++stats_.requests_running;
  stats_.queue_time.Observe(absl::ToDoubleSeconds(queue_time));
}

void Ledger::ReleaseTokens(uint64_t tokens) {
  std::lock_guard lock(mu_);
  MAMBAD_CHECK(tokens <= tokens_);
  tokens_ -= tokens;
}

void Ledger::Finish(Method method, bool was_running, absl::StatusCode code, absl::Duration duration) {
  std::lock_guard lock(mu_);
  uint64_t& from = was_running && !given_up_ ? stats_.requests_running : stats_.requests_waiting;
  MAMBAD_CHECK(from > 0);
  --from;
  ++CountOf(stats_.requests_finished, method, code);
  stats_.request_duration.Observe(absl::ToDoubleSeconds(duration));
}

void Ledger::FinishCandidate(FinishReason reason) {
  std::lock_guard lock(mu_);
  ++stats_.generations_finished[static_cast<size_t>(reason)];
}

void Ledger::GiveUp(std::span<const GivenUp> requests) {
  std::lock_guard lock(mu_);
  given_up_ = true;
  stats_.requests_waiting += std::exchange(stats_.requests_running, 0);
  MAMBAD_CHECK(requests.size() <= stats_.requests_waiting);
  stats_.requests_waiting -= requests.size();
  for (const GivenUp& request : requests) ++CountOf(stats_.requests_finished, request.method, request.code);
}

void Ledger::CountDecode(uint64_t rows, uint64_t tokens_emitted, absl::Duration wall) {
  std::lock_guard lock(mu_);
  stats_.generation_tokens += tokens_emitted;
  if (rows > 0) stats_.batch_rows.Observe(static_cast<double>(rows));
  stats_.tick_decode.Observe(absl::ToDoubleSeconds(wall));
}

void Ledger::CountPrefill(uint64_t prompt_tokens, uint64_t tokens_emitted, absl::Duration wall) {
  std::lock_guard lock(mu_);
  stats_.prompt_tokens += prompt_tokens;
  stats_.generation_tokens += tokens_emitted;
  stats_.tick_prefill.Observe(absl::ToDoubleSeconds(wall));
}

void Ledger::Publish(const SlotLoad& load, uint32_t slots_used,
                     const std::array<uint64_t, kSessionStateCount>& sessions, absl::Time now) {
  std::lock_guard lock(mu_);
  load_ = load;
  stats_.state_slots_used = slots_used;
  stats_.state_bytes_used = slots_used * slot_bytes_;
  stats_.sessions = sessions;
  last_tick_ = now;
}

void Ledger::RecordTimeToFirstToken(absl::Duration latency) {
  std::lock_guard lock(mu_);
  stats_.time_to_first_token.Observe(absl::ToDoubleSeconds(latency));
}

void Ledger::RecordInterTokenLatency(absl::Duration latency, uint64_t tokens) {
  std::lock_guard lock(mu_);
  stats_.inter_token_latency.Observe(absl::ToDoubleSeconds(latency), tokens);
}

absl::Duration Ledger::RetryAfter() const {
  std::lock_guard lock(mu_);
  return RetryAfterOf(PredictWait(load_, 1));
}

absl::Time Ledger::last_tick() const {
  std::lock_guard lock(mu_);
  return last_tick_;
}

EngineStats Ledger::Stats() const {
  std::lock_guard lock(mu_);
  return stats_;
}

}  // namespace mambad
