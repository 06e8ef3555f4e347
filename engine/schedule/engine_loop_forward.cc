// Decode rows within a tick of EngineLoop, and what comes of them; engine_loop_prompts.cc has the prompts.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "engine/error.h"
#include "engine/schedule/engine_loop.h"
#include "kernels/base/check.h"

namespace mambad {

// A tick that has collected a step runs no other beside its prompts: its rows would step twice.
uint32_t EngineLoop::RunDecode(uint32_t collected_rows) {
  const bool ahead = model_.launches_max() > 0 && prompts_.empty();
  if (!ahead && collected_rows > 0) return 0;
  std::vector<Row> rows = ReadyRows();
  if (rows.empty()) return 0;
  worked_ = true;
  batch_.Clear();
  for (const Row& row : rows) PlanRow(row);
  if (ahead) {
    LaunchStep(std::move(rows));
    return 0;
  }
  const WallTimer timer(wall_clock_);
  if (absl::Status status = model_.Forward(batch_, pool_->view(), &results_); !status.ok()) {
    LoseDevice(status);
    return 0;
  }
  const absl::Duration wall = timer.Elapsed();
  return DeliverDecode(rows, wall);
}

void EngineLoop::PlanRow(const Row& row) {
  const Candidate& candidate = row.request->candidates[row.candidate];
  const auto index = static_cast<uint32_t>(batch_.decode_slots.size());
  row.request->last_planned[row.candidate] = tick_;
  batch_.decode_slots.push_back(row.request->SlotOf(row.candidate));
  batch_.decode_tokens.push_back(candidate.last_token());
  // A closing row draws nothing; its task asks whether the state is finite.
  batch_.logits.push_back({.source = LogitsSource::kDecodeRow,
                           .index = index,
                           .sampling = row.request->closing ? nullptr : &candidate.sampling()});
}

std::vector<EngineLoop::Row> EngineLoop::ReadyRows() {
  std::vector<Row> rows;
  std::vector<ReadyRow> ready;
  for (OpenRequest* request : decoding_) {
    const auto live =
        static_cast<size_t>(std::count_if(request->candidates.begin(), request->candidates.end(),
                                          [](const Candidate& candidate) { return !candidate.ended(); }));
    if (!request->closing && !HasRoom(*request, live)) continue;
    for (uint32_t i = 0; i < request->candidates.size(); ++i) {
      if (request->candidates[i].ended() && !request->closing) continue;
      ready.push_back({.id = static_cast<uint32_t>(rows.size()), .last_planned = request->last_planned[i]});
      rows.push_back({.request = request, .candidate = i});
    }
  }
  const uint32_t rows_max = std::min(options_.decode_rows_max, model_.limits().decode_rows);
  std::vector<Row> planned;
  planned.reserve(std::min<size_t>(rows.size(), rows_max));
  for (const uint32_t id : PlanDecode(ready, rows_max)) planned.push_back(rows[id]);
  return planned;
}

// Returns how many rows the step advanced: a stale one's state belongs to nobody any more.
uint32_t EngineLoop::DeliverDecode(const std::vector<Row>& rows, absl::Duration wall) {
  MAMBAD_CHECK(results_.size() == rows.size());
  step_wall_ = wall;
  const auto advanced =
      static_cast<uint32_t>(std::ranges::count_if(rows, [this](const Row& row) { return !IsStale(row); }));
  uint64_t emitted = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    // Another candidate of the same request may have failed it already, or the step before ended it.
    if (!IsStale(rows[i])) DeliverRow(rows[i], results_[i], &emitted);
  }
  ledger_.CountDecode(advanced, emitted, wall);
  return advanced;
}

void EngineLoop::DeliverRow(const Row& row, const LogitsResult& result, uint64_t* emitted) {
  OpenRequest& request = *row.request;
  if (request.session != nullptr) {
    ++request.session->position;
    request.session->poisoned = !result.finite;
  }
  if (!result.finite) return EndRequest(request, StatePoisonedError());
  if (!request.closing) return Emit(request, row.candidate, result, emitted);
  if (request.verdict) return EndRequest(request, *request.verdict);
  FinishCandidate(request, row.candidate);
}

// Hands out one drawn token; the candidate may end with it.
void EngineLoop::Emit(OpenRequest& request, uint32_t index, const LogitsResult& result, uint64_t* emitted) {
  Candidate& candidate = request.candidates[index];
  DeltaEvent delta = candidate.Take(result);
  delta.sampled_at = now_;
  request.sink->Push(std::move(delta));
  ++*emitted;
  if (!candidate.ended()) return;
  if (request.session != nullptr && candidate.consumes_last()) {
    request.closing = true;
  } else {
    FinishCandidate(request, index);
  }
}

void EngineLoop::FinishCandidate(OpenRequest& request, uint32_t index) {
  const Candidate& candidate = request.candidates[index];
  Usage usage = UsageOf(request);
  usage.output_tokens = candidate.output_tokens();
  request.sink->Push(FinishedEvent{.candidate_index = index,
                                   .reason = candidate.reason(),
                                   .matched_stop = candidate.matched_stop(),
                                   .usage = usage});
  ledger_.FinishCandidate(candidate.reason());
  if (++request.candidates_finished == request.candidates.size()) {
    EndRequest(request, absl::OkStatus());
  } else {
    request.slots[index] = StateSlot();
  }
}

}  // namespace mambad
