// The model's turn within a tick of EngineLoop: decode rows, then prompt chunks, and what comes of them.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "engine/error.h"
#include "engine/schedule/engine_loop.h"
#include "kernels/base/check.h"

namespace mambad {
namespace {

absl::Status NonFinite() {
  return MakeError(absl::StatusCode::kInternal, "the state became non-finite",
                   {.reason = reason::kStatePoisoned});
}

bool AllFinite(std::span<const LogitsResult> results) {
  return std::all_of(results.begin(), results.end(), [](const LogitsResult& each) { return each.finite; });
}

}  // namespace

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
  const WallTimer timer;
  if (absl::Status status = model_.Forward(batch_, pool_->view(), &results_); !status.ok()) {
    LoseDevice(status);
    return 0;
  }
  const absl::Duration wall = timer.Elapsed();
  const uint64_t emitted = DeliverDecode(rows);
  ledger_.CountDecode(rows.size(), emitted, wall);
  return static_cast<uint32_t>(rows.size());
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

uint64_t EngineLoop::DeliverDecode(const std::vector<Row>& rows) {
  MAMBAD_CHECK(results_.size() == rows.size());
  uint64_t emitted = 0;
  for (size_t i = 0; i < rows.size(); ++i) {
    // Another candidate of the same request may have failed it already, or the step before ended it.
    if (!IsStale(rows[i])) DeliverRow(rows[i], results_[i], &emitted);
  }
  return emitted;
}

void EngineLoop::DeliverRow(const Row& row, const LogitsResult& result, uint64_t* emitted) {
  OpenRequest& request = *row.request;
  if (request.session != nullptr) {
    ++request.session->position;
    request.session->poisoned = !result.finite;
  }
  if (!result.finite) return EndRequest(request, NonFinite());
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

uint32_t EngineLoop::RunPrompts(uint32_t decode_rows) {
  batch_.Clear();
  const std::vector<PromptRow> rows = PlanPromptRows(PromptTokensNow(decode_rows));
  if (rows.empty()) return 0;
  worked_ = true;
  const WallTimer timer;
  results_.clear();
  if (!batch_.empty()) {
    if (absl::Status status = model_.Forward(batch_, pool_->view(), &results_); !status.ok()) {
      LoseDevice(status);
      return 0;
    }
  }
  const absl::Duration wall = timer.Elapsed();
  MAMBAD_CHECK(results_.size() == batch_.logits.size());
  uint64_t emitted = 0;
  for (const PromptRow& row : rows) {
    if (!row.request->ended) DeliverPrompt(row, &emitted);
  }
  const auto tokens = static_cast<uint32_t>(batch_.prompt_tokens.size());
  prompt_rate_.Observe(tokens, wall);
  ledger_.CountPrefill(tokens, emitted, wall);
  return tokens;
}

uint32_t EngineLoop::PromptTokensNow(uint32_t decode_rows) const {
  const bool idle = decode_rows == 0;
  const uint32_t budget = idle ? options_.prompt_tokens_per_tick_idle : options_.prompt_tokens_per_tick;
  const absl::Duration time = idle ? options_.prompt_time_per_tick_idle : options_.prompt_time_per_tick;
  return PromptBudget(std::min(budget, model_.limits().prompt_tokens), decode_rows,
                      prompt_rate_.TokensIn(time));
}

// The prompts that may be read in this tick.
std::vector<OpenRequest*> EngineLoop::ReadyPrompts(uint32_t budget) {
  std::vector<OpenRequest*> ready;
  const bool scarce = pool_->wide().slots() < pool_->slots();
  uint32_t wide_free = pool_->wide().free();
  for (OpenRequest* request : prompts_) {
    // Without prompt_logprobs nothing but Started is in the sink yet, and one tick's events always fit.
    if (request->request.output.prompt_logprobs && !HasRoom(*request, request->candidates.size() + 1))
      continue;
    const uint64_t remaining = request->reader->remaining();
    if (narrow_ && !request->wide.held() && remaining > 0) {
      // The last one is for prompts that give it back soon: long ones never keep a short one waiting.
      if (wide_free == 0 || (wide_free == 1 && scarce && remaining > budget)) continue;
      --wide_free;
    }
    ready.push_back(request);
  }
  return ready;
}

// The next `tokens` of a prompt into batch_, with the tasks that score them.
void EngineLoop::AppendChunk(OpenRequest& request, uint32_t tokens) {
  request.reader->AppendChunk(tokens, request.SlotOf(0), &batch_);
  if (!narrow_ || tokens == 0) return;
  const bool begins = !request.wide.held();
  if (begins) request.wide = pool_->wide().Take();
  batch_.chunk_wide.push_back(
      {.slot = request.wide.index(), .begins = begins, .ends = request.reader->done()});
}

// Fills batch_ with this tick's chunks and their tasks.
std::vector<EngineLoop::PromptRow> EngineLoop::PlanPromptRows(uint32_t budget) {
  const std::vector<OpenRequest*> ready = ReadyPrompts(budget);
  std::vector<uint64_t> remaining;
  for (const OpenRequest* request : ready) remaining.push_back(request->reader->remaining());
  const std::vector<uint32_t> shares = PlanPrompts(remaining, budget);
  std::vector<PromptRow> rows;
  for (size_t i = 0; i < ready.size(); ++i) {
    OpenRequest& request = *ready[i];
    if (shares[i] == 0 && remaining[i] > 0) continue;
    // Beside its scores: the one of its first token, a draw for each candidate or a check of its last row.
    const size_t tasks_max = size_t{shares[i]} + 1 + std::max<size_t>(1, request.candidates.size());
    if (batch_.logits.size() + tasks_max > model_.limits().logits_tasks()) break;
    rows.push_back({.request = &request, .tokens = shares[i], .first_task = batch_.logits.size()});
    AppendChunk(request, shares[i]);
    if (!request.reader->done()) continue;
    for (const Candidate& candidate : request.candidates) {
      LogitsTask draw = request.reader->AfterChunk();
      draw.sampling = &candidate.sampling();
      batch_.logits.push_back(draw);
    }
    if (request.request.method == Method::kAppendInput) {
      batch_.logits.push_back(request.reader->AfterChunk());
    }
  }
  return rows;
}

void EngineLoop::DeliverPrompt(const PromptRow& row, uint64_t* emitted) {
  OpenRequest& request = *row.request;
  const bool done = request.reader->done();
  const bool append = request.request.method == Method::kAppendInput;
  const std::span<const LogitsResult> results(results_);
  const auto scored = results.subspan(row.first_task, request.reader->tasks());
  const auto last = results.subspan(row.first_task + scored.size(),
                                    done ? request.candidates.size() + (append ? 1 : 0) : 0);
  if (!AllFinite(scored) || !AllFinite(last)) return EndRequest(request, NonFinite());

  std::vector<TokenLogprob> scores = request.reader->TakeScores(scored);
  if (request.request.method == Method::kScore) {
    std::move(scores.begin(), scores.end(), std::back_inserter(request.scores));
  } else if (!scores.empty()) {
    request.sink->Push(PromptLogprobsEvent{.logprobs = std::move(scores)});
  }
  if (!done) return;
  if (request.request.method == Method::kScore) return FinishScore(request);
  if (append) return FinishAppend(request);
  BeginOutput(request, last, emitted);
}

// The prompt is read and the first tokens are drawn: the session moves on, the other candidates get copies.
void EngineLoop::BeginOutput(OpenRequest& request, std::span<const LogitsResult> samples, uint64_t* emitted) {
  std::erase(prompts_, &request);
  decoding_.push_back(&request);
  request.phase = OpenRequest::Phase::kDecode;
  if (request.session != nullptr) AdoptPrompt(request);
  ReleasePrompt(request);
  SetSessionState(request);
  for (uint32_t i = 1; i < request.candidates.size(); ++i) {
    if (absl::Status status = pool_->Copy(request.slots[0], request.slots[i]); !status.ok()) {
      return LoseDevice(status);
    }
  }
  for (uint32_t i = 0; i < request.candidates.size(); ++i) Emit(request, i, samples[i], emitted);
}

// Nobody looks at the prompt any more.
void EngineLoop::ReleasePrompt(OpenRequest& request) {
  request.wide = WideSlot();
  request.request.prompt = {};
  request.request.score_text = {};
  ledger_.ReleaseTokens(std::exchange(request.tokens_kept, 0));
}

void EngineLoop::FinishAppend(OpenRequest& request) {
  AdoptPrompt(request);
  EndRequest(request, absl::OkStatus());
}

// The session's state is now the one that has read the prompt; there is no way back any more.
void EngineLoop::AdoptPrompt(OpenRequest& request) {
  Session& session = *request.session;
  if (!request.slots.empty()) {
    session.slot = std::move(request.slots[0]);
    request.slots.clear();
  }
  session.slot_in_use = false;
  session.position += request.reader->consumed();
}

void EngineLoop::FinishScore(OpenRequest& request) {
  ScoredEvent scored;
  scored.is_greedy = request.reader->is_greedy();
  for (const TokenLogprob& score : request.scores) {
    if (!std::isnan(score.logprob)) scored.total_logprob += score.logprob;
  }
  scored.logprobs = std::move(request.scores);
  request.sink->Push(std::move(scored));
  EndRequest(request, absl::OkStatus());
}

}  // namespace mambad
