// Prompt passes within the ticks of EngineLoop, and what comes of them.
#include <algorithm>
#include <cmath>
#include <iterator>
#include <utility>

#include "engine/error.h"
#include "engine/schedule/engine_loop.h"
#include "kernels/base/check.h"
#include "kernels/base/slots.h"

namespace mambad {
namespace {

// Rows of logits from which on the head takes long: a pass that scores its prompts.
constexpr size_t kManyTasks = 64;

bool AllFinite(std::span<const LogitsResult> results) {
  return std::all_of(results.begin(), results.end(), [](const LogitsResult& each) { return each.finite; });
}

}  // namespace

// Returns the tokens of a pass that ended.
uint32_t EngineLoop::RunPrompts() {
  AskPausedReaders();
  RunWithoutLayers();
  if (!pass_) PlanPass(PromptTokensNow());
  return pass_ ? RunPass() : 0;
}

// What only asks about its slot (a turn without a prompt, a Score of one token) waits for no pass.
void EngineLoop::RunWithoutLayers() {
  Pass pass;
  for (OpenRequest* request : ReadyPrompts(0)) {
    const bool asks = request->reader->remaining() == 0 && !request->reader->done();
    if (asks && !Append(*request, 0, &pass)) break;
  }
  if (pass.rows.empty()) return;
  worked_ = true;
  results_.clear();
  const WallTimer timer(wall_clock_);
  if (!pass.batch.empty()) {
    absl::Status status = model_.Forward(pass.batch, pool_->view(), &results_);
    if (!status.ok()) return LoseDevice(status);
  }
  const absl::Duration wall = timer.Elapsed();
  ledger_.CountPrefill(0, DeliverPass(pass), wall);
}

// Goes on with the pass under way.
uint32_t EngineLoop::RunPass() {
  worked_ = true;
  const auto tokens = static_cast<uint32_t>(pass_->batch.prompt_tokens.size());
  const uint32_t first = pass_->parts_done;
  const uint32_t last = first + PartsNow();
  const bool ends = last == model_.parts();
  const WallTimer timer(wall_clock_);
  if (absl::Status status = model_.ForwardParts(pass_->batch, pool_->view(), first, last, &results_);
      !status.ok()) {
    LoseDevice(status);
    return 0;
  }
  const absl::Duration wall = timer.Elapsed();
  if (!ends || pass_->batch.logits.size() < kManyTasks) part_time_.Observe(tokens, last - first, wall);
  pass_->parts_done = last;
  pass_->wall += wall;
  if (!ends) {
    ledger_.CountPrefill(0, 0, wall);
    return 0;
  }
  const Pass pass = *std::exchange(pass_, std::nullopt);
  prompt_rate_.Observe(tokens, pass.wall);
  uint32_t read = 0;  // for somebody
  for (const PromptRow& row : pass.rows) read += row.request != nullptr ? row.tokens : 0;
  ledger_.CountPrefill(read, DeliverPass(pass), wall);
  return read;
}

// What waits for its reader, whether or not a pass begins: the time of a slow one runs on.
void EngineLoop::AskPausedReaders() {
  for (OpenRequest* request : prompts_) {
    if (request->paused()) HasRoom(*request, request->candidates.size() + 1);
  }
}

// How many more parts of the pass this tick runs.
uint32_t EngineLoop::PartsNow() const {
  const uint32_t left = model_.parts() - pass_->parts_done;
  const double share = options_.prompt_share;
  // Streams whose readers are behind for a moment are streams too.
  if (decoding_.empty() || share >= 1) return left;
  const uint32_t now =
      PlanParts(left, part_time_.Expect(static_cast<uint32_t>(pass_->batch.prompt_tokens.size())),
                step_wall_ * (share / (1 - share)));
  // The head of many rows is a tick's work by itself.
  return now == left && left > 1 && pass_->batch.logits.size() >= kManyTasks ? left - 1 : now;
}

uint64_t EngineLoop::DeliverPass(const Pass& pass) {
  MAMBAD_CHECK(results_.size() == pass.batch.logits.size());
  uint64_t emitted = 0;
  for (const PromptRow& row : pass.rows) {
    if (row.request != nullptr && !row.request->ended) DeliverPrompt(row, &emitted);
  }
  return emitted;
}

// The request ends: its chunk goes no further, and its slots may be given to others.
void EngineLoop::LeavePass(const OpenRequest& request) {
  if (!pass_) return;
  const auto row = std::ranges::find(pass_->rows, &request, &PromptRow::request);
  if (row == pass_->rows.end()) return;
  Batch& batch = pass_->batch;
  batch.chunk_slots[row->chunk] = kernels::kNoSlot;
  if (!batch.chunk_wide.empty()) batch.chunk_wide[row->chunk] = {.slot = kernels::kNoSlot};
  for (LogitsTask& task : std::span(batch.logits).subspan(row->first_task, row->tasks)) {
    task.sampling = nullptr;  // it points into the request
    task.target.reset();
    task.top_logprobs = 0;
  }
  row->request = nullptr;
  const auto lives = [](const PromptRow& each) { return each.request != nullptr; };
  if (std::ranges::none_of(pass_->rows, lives)) pass_.reset();
}

uint32_t EngineLoop::PromptTokensNow() const {
  const bool idle = decoding_.empty();
  const uint32_t budget = idle ? options_.prompt_tokens_per_pass_idle : options_.prompt_tokens_per_pass;
  const absl::Duration time =
      idle ? options_.prompt_time_per_pass_idle : options_.prompt_time_per_pass * options_.prompt_share;
  return PromptBudget(std::min(budget, model_.limits().prompt_tokens), prompt_rate_.TokensIn(time));
}

// The prompts that the next pass may read.
std::vector<OpenRequest*> EngineLoop::ReadyPrompts(uint32_t budget) {
  std::vector<OpenRequest*> ready;
  const bool scarce = pool_->wide().slots() < pool_->slots();
  uint32_t wide_free = pool_->wide().free();
  for (OpenRequest* request : prompts_) {
    // Without prompt_logprobs nothing but Started is in the sink yet, and one pass's events always fit.
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

// The next `tokens` of a prompt into `batch`, with the tasks that score them.
void EngineLoop::AppendChunk(OpenRequest& request, uint32_t tokens, Batch* batch) {
  request.reader->AppendChunk(tokens, request.SlotOf(0), batch);
  if (!narrow_ || tokens == 0) return;
  const bool begins = !request.wide.held();
  if (begins) request.wide = pool_->wide().Take();
  batch->chunk_wide.push_back(
      {.slot = request.wide.index(), .begins = begins, .ends = request.reader->done()});
}

// The chunks of the next pass and their tasks, if there are any.
void EngineLoop::PlanPass(uint32_t budget) {
  std::vector<OpenRequest*> ready = ReadyPrompts(budget);
  std::erase_if(ready, [](const OpenRequest* request) { return request->reader->remaining() == 0; });
  std::vector<uint64_t> remaining;
  for (const OpenRequest* request : ready) remaining.push_back(request->reader->remaining());
  const std::vector<uint32_t> shares = PlanPrompts(remaining, budget);
  Pass pass;
  for (size_t i = 0; i < ready.size(); ++i) {
    if (shares[i] > 0 && !Append(*ready[i], shares[i], &pass)) break;
  }
  if (!pass.rows.empty()) pass_ = std::move(pass);
}

// The next `tokens` of a prompt, with what is asked of them. False, and nothing is done, where the model
// takes no more tasks.
bool EngineLoop::Append(OpenRequest& request, uint32_t tokens, Pass* pass) {
  std::vector<LogitsTask>& tasks = pass->batch.logits;
  // Beside its scores: the one of its first token, a draw for each candidate or a check of its last row.
  const size_t tasks_max = size_t{tokens} + 1 + std::max<size_t>(1, request.candidates.size());
  if (tasks.size() + tasks_max > model_.limits().logits_tasks()) return false;
  PromptRow row = {.request = &request,
                   .first_task = tasks.size(),
                   .chunk = pass->batch.chunk_slots.size(),
                   .tokens = tokens};
  AppendChunk(request, tokens, &pass->batch);
  if (request.reader->done()) AppendLastTasks(request, &tasks);
  row.tasks = tasks.size() - row.first_task;
  pass->rows.push_back(row);
  return true;
}

// What is asked of the last row of a prompt.
void EngineLoop::AppendLastTasks(const OpenRequest& request, std::vector<LogitsTask>* tasks) {
  for (const Candidate& candidate : request.candidates) {
    LogitsTask draw = request.reader->AfterChunk();
    draw.sampling = &candidate.sampling();
    tasks->push_back(draw);
  }
  if (request.request.method == Method::kAppendInput) tasks->push_back(request.reader->AfterChunk());
}

void EngineLoop::DeliverPrompt(const PromptRow& row, uint64_t* emitted) {
  OpenRequest& request = *row.request;
  const bool done = request.reader->done();
  const bool append = request.request.method == Method::kAppendInput;
  const std::span<const LogitsResult> results(results_);
  const auto scored = results.subspan(row.first_task, request.reader->tasks());
  const auto last = results.subspan(row.first_task + scored.size(),
                                    done ? request.candidates.size() + (append ? 1 : 0) : 0);
  if (!AllFinite(scored) || !AllFinite(last)) return EndRequest(request, StatePoisonedError());

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
