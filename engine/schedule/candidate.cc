#include "engine/schedule/candidate.h"

#include <algorithm>
#include <utility>

#include "engine/text/tokenizer.h"
#include "kernels/base/check.h"

namespace mambad {
namespace {

bool Contains(const std::vector<uint32_t>& tokens, uint32_t token) {
  return std::find(tokens.begin(), tokens.end(), token) != tokens.end();
}

kernels::SamplingParams KernelParams(const GenerationRequest& request) {
  const SamplingParams& from = request.sampling;
  const OutputOptions& output = request.output;
  return {.temperature = from.temperature,
          .top_p = from.top_p,
          .min_p = from.min_p,
          .repetition_penalty = from.repetition_penalty,
          .presence_penalty = from.presence_penalty,
          .frequency_penalty = from.frequency_penalty,
          .top_k = static_cast<int32_t>(from.top_k),
          .top_logprobs = output.logprobs ? static_cast<int32_t>(output.top_logprobs) : 0,
          .logprob = output.logprobs};
}

}  // namespace

Candidate::Candidate(const GenerationRequest& request, uint32_t index, uint64_t seed,
                     const Tokenizer* tokenizer, const std::vector<uint32_t>& eos_token_ids,
                     uint32_t vocab_size)
    : request_(&request), vocab_size_(vocab_size) {
  if (!request.stop.ignore_eos) eos_token_ids_ = eos_token_ids;
  sampling_.params = KernelParams(request);
  sampling_.key = {.seed = seed, .token_index = 0, .candidate = index};
  for (const auto& [token, bias] : request.sampling.logit_bias) {
    sampling_.logit_bias.push_back({.token = static_cast<int32_t>(token), .bias = bias});
  }
  if (Penalizes()) CountPrompt();
  SuppressEnds();
  with_text_ = tokenizer != nullptr && !request.output.skip_text;
  if (with_text_ || !request.stop.stop_sequences.empty()) {
    MAMBAD_CHECK(tokenizer != nullptr);
    detokenizer_.emplace(tokenizer, /*skip_special=*/true);
    absl::StatusOr<StopMatcher> stops =
        StopMatcher::Create(request.stop.stop_sequences, request.stop.include_stop_sequence);
    MAMBAD_CHECK(stops.ok());
    stops_ = *std::move(stops);
  }
}

DeltaEvent Candidate::Take(const LogitsResult& result) {
  MAMBAD_CHECK(!ended() && result.token < vocab_size_);
  last_token_ = result.token;
  ++sampling_.key.token_index;
  if (Penalizes()) CountOutput(result.token);
  reason_ = ReasonToEnd(result.token);

  DeltaEvent delta;
  delta.candidate_index = sampling_.key.candidate;
  delta.token_ids = {result.token};
  if (detokenizer_) {
    std::string text = TextOf(result.token);
    if (with_text_) delta.text = std::move(text);
  }
  if (request_->output.logprobs) {
    TokenLogprob& logprob = delta.logprobs.emplace_back();
    logprob.token_id = result.token;
    logprob.logprob = result.logprob;
    for (const auto& [token, value] : result.top)
      logprob.top.push_back({.token_id = token, .logprob = value});
  }
  return delta;
}

bool Candidate::consumes_last() const {
  MAMBAD_CHECK(ended());
  if (*reason_ != FinishReason::kEos && *reason_ != FinishReason::kStopToken) return true;
  return request_->stop.consume_stop_token;
}

void Candidate::AppendStopsOfNext(std::vector<uint32_t>* stops) const {
  const StopConditions& stop = request_->stop;
  if (stop.consume_stop_token || output_tokens() + 1 < stop.min_output_tokens) return;
  stops->insert(stops->end(), eos_token_ids_.begin(), eos_token_ids_.end());
  stops->insert(stops->end(), stop.stop_token_ids.begin(), stop.stop_token_ids.end());
}

bool Candidate::Penalizes() const {
  const kernels::SamplingParams& params = sampling_.params;
  return params.repetition_penalty != 1 || params.presence_penalty != 0 || params.frequency_penalty != 0;
}

void Candidate::CountPrompt() {
  for (const uint32_t token : request_->prompt) {
    const auto id = static_cast<int32_t>(token);
    if (count_index_.try_emplace(id, sampling_.token_counts.size()).second) {
      sampling_.token_counts.push_back({.token = id, .output_count = 0});
    }
  }
}

void Candidate::CountOutput(uint32_t token) {
  const auto id = static_cast<int32_t>(token);
  const auto [entry, is_new] = count_index_.try_emplace(id, sampling_.token_counts.size());
  if (is_new) sampling_.token_counts.push_back({.token = id, .output_count = 0});
  ++sampling_.token_counts[entry->second].output_count;
}

// Before min_output_tokens the tokens that would end the output are not drawn, unless nothing else is left.
void Candidate::SuppressEnds() {
  std::vector<int32_t>& suppressed = sampling_.suppressed;
  suppressed.assign(eos_token_ids_.begin(), eos_token_ids_.end());
  suppressed.insert(suppressed.end(), request_->stop.stop_token_ids.begin(),
                    request_->stop.stop_token_ids.end());
  std::sort(suppressed.begin(), suppressed.end());
  suppressed.erase(std::unique(suppressed.begin(), suppressed.end()), suppressed.end());
  if (suppressed.size() >= vocab_size_) suppressed.clear();
  sampling_.suppressed_below = request_->stop.min_output_tokens;
}

std::optional<FinishReason> Candidate::ReasonToEnd(uint32_t token) const {
  if (output_tokens() >= request_->stop.min_output_tokens) {
    if (Contains(eos_token_ids_, token)) return FinishReason::kEos;
    if (Contains(request_->stop.stop_token_ids, token)) return FinishReason::kStopToken;
  }
  if (output_tokens() >= request_->stop.max_output_tokens) return FinishReason::kLength;
  return std::nullopt;
}

// The text that `token` lets out. A stop string that it completes ends the output, from min_output_tokens on;
// the token that ends the output by its id has no text of its own; the end lets out what was held back.
std::string Candidate::TextOf(uint32_t token) {
  const bool ends_by_id = reason_ == FinishReason::kEos || reason_ == FinishReason::kStopToken;
  std::string piece = ends_by_id ? std::string() : detokenizer_->Append(token);
  if (reason_) piece += detokenizer_->Finish();
  if (output_tokens() < request_->stop.min_output_tokens) return stops_.PushUnmatched(piece);
  StopMatcher::Result pushed = stops_.Push(piece);
  if (pushed.matched_index && !ends_by_id) {
    reason_ = FinishReason::kStopSequence;
    matched_stop_ = request_->stop.stop_sequences[*pushed.matched_index];
  } else if (reason_) {
    pushed.text += stops_.Flush();
  }
  return std::move(pushed.text);
}

}  // namespace mambad
