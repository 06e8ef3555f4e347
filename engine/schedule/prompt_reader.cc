#include "engine/schedule/prompt_reader.h"

#include <limits>

#include "kernels/base/check.h"

namespace mambad {
namespace {

uint64_t FirstScored(const GenerationRequest& request) {
  if (request.method == Method::kScore) return request.prompt.size();
  return request.output.prompt_logprobs ? 0 : UINT64_MAX;
}

}  // namespace

PromptReader::PromptReader(const GenerationRequest& request, uint64_t start_position)
    : request_(&request),
      start_position_(start_position),
      input_size_(request.prompt.size() + request.score_text.size()),
      to_consume_(request.method == Method::kScore ? input_size_ - 1 : input_size_),
      first_scored_(FirstScored(request)),
      top_logprobs_(request.method == Method::kScore || request.output.prompt_logprobs
                        ? request.output.top_logprobs
                        : 0) {}

uint32_t PromptReader::TokenAt(uint64_t index) const {
  const uint64_t context = request_->prompt.size();
  return index < context ? request_->prompt[index] : request_->score_text[index - context];
}

void PromptReader::AddTask(LogitsSource source, uint32_t index, uint64_t target, Batch* batch) {
  targets_.push_back(TokenAt(target));
  batch->logits.push_back(
      {.source = source, .index = index, .target = targets_.back(), .top_logprobs = top_logprobs_});
}

void PromptReader::AppendChunk(uint32_t tokens, int32_t slot, Batch* batch) {
  MAMBAD_CHECK(!done() && tokens <= remaining() && (tokens > 0 || to_consume_ == 0));
  targets_.clear();
  leads_with_none_ = false;
  if (!started_ && first_scored_ == 0 && input_size_ > 0) {
    if (start_position_ > 0) {
      AddTask(LogitsSource::kSlot, static_cast<uint32_t>(slot), 0, batch);
    } else {
      leads_with_none_ = true;
    }
  }
  started_ = true;
  after_ = {.source = LogitsSource::kSlot, .index = static_cast<uint32_t>(slot)};
  if (tokens > 0) {
    if (batch->chunk_offsets.empty()) batch->chunk_offsets.push_back(0);
    batch->chunk_slots.push_back(slot);
    for (uint32_t i = 0; i < tokens; ++i, ++consumed_) {
      const auto packed = static_cast<uint32_t>(batch->prompt_tokens.size());
      batch->prompt_tokens.push_back(TokenAt(consumed_));
      const uint64_t next = consumed_ + 1;
      if (next >= first_scored_ && next < input_size_) {
        AddTask(LogitsSource::kPromptToken, packed, next, batch);
      }
      after_ = {.source = LogitsSource::kPromptToken, .index = packed};
    }
    batch->chunk_offsets.push_back(static_cast<uint32_t>(batch->prompt_tokens.size()));
  }
  tasks_ = targets_.size();
}

std::vector<TokenLogprob> PromptReader::TakeScores(std::span<const LogitsResult> results) {
  MAMBAD_CHECK(results.size() == tasks_);
  read_ = done() ? input_size_ : consumed_;
  std::vector<TokenLogprob> scores;
  scores.reserve(results.size() + 1);
  if (leads_with_none_) {
    scores.push_back({.token_id = TokenAt(0), .logprob = std::numeric_limits<float>::quiet_NaN()});
  }
  for (size_t i = 0; i < results.size(); ++i) {
    TokenLogprob& score = scores.emplace_back();
    score.token_id = targets_[i];
    score.logprob = results[i].target_logprob;
    for (const auto& [token, logprob] : results[i].top) {
      score.top.push_back({.token_id = token, .logprob = logprob});
    }
    is_greedy_ = is_greedy_ && results[i].target_is_greedy;
  }
  return scores;
}

}  // namespace mambad
