#include "tests/support/oracle_run.h"

#include <algorithm>
#include <map>

namespace mambad {
namespace {

bool Holds(const std::vector<uint32_t>& list, uint32_t token) {
  return std::find(list.begin(), list.end(), token) != list.end();
}

// The row of the draw after `output`, from the request's words alone.
SamplingRow RowFor(const GenerationRequest& request, uint64_t seed, uint32_t candidate,
                   const std::vector<uint32_t>& output) {
  const SamplingParams& from = request.sampling;
  SamplingRow row;
  row.params.temperature = from.temperature;
  row.params.top_k = static_cast<int32_t>(from.top_k);
  row.params.top_p = from.top_p;
  row.params.min_p = from.min_p;
  row.params.repetition_penalty = from.repetition_penalty;
  row.params.presence_penalty = from.presence_penalty;
  row.params.frequency_penalty = from.frequency_penalty;
  row.key = {.seed = seed, .token_index = output.size(), .candidate = candidate};
  for (const auto& [token, bias] : from.logit_bias) {
    row.logit_bias.push_back({static_cast<int32_t>(token), bias});
  }
  if (from.repetition_penalty != 1 || from.presence_penalty != 0 || from.frequency_penalty != 0) {
    std::map<uint32_t, int32_t> counts;
    for (const uint32_t token : request.prompt) counts[token] += 0;
    for (const uint32_t token : output) ++counts[token];
    for (const auto& [token, count] : counts)
      row.token_counts.push_back({static_cast<int32_t>(token), count});
  }
  if (output.size() + 1 < request.stop.min_output_tokens) {
    row.suppressed_below = output.size() + 2;
    if (!request.stop.ignore_eos) row.suppressed.push_back(static_cast<int32_t>(OracleModel::kEos));
    for (const uint32_t token : request.stop.stop_token_ids) {
      row.suppressed.push_back(static_cast<int32_t>(token));
    }
  }
  return row;
}

}  // namespace

OracleRun::OracleRun(OracleState start_state, const GenerationRequest& request, uint64_t seed,
                     uint32_t candidate)
    : start(start_state) {
  OracleState state = OracleModel::ConsumePrompt(start, request.prompt);
  prompt_poisoned = state.poisoned != 0;
  states.push_back(state);
  bool by_id = false;
  while (!by_id && tokens.size() < request.stop.max_output_tokens) {
    const uint32_t token = OracleModel::Draw(state, RowFor(request, seed, candidate, tokens));
    tokens.push_back(token);
    state = OracleModel::Consume(state, token, /*as_prompt=*/false);
    states.push_back(state);
    if (tokens.size() < request.stop.min_output_tokens) continue;
    if (token == OracleModel::kEos && !request.stop.ignore_eos) {
      reason = FinishReason::kEos;
      by_id = true;
    } else if (Holds(request.stop.stop_token_ids, token)) {
      reason = FinishReason::kStopToken;
      by_id = true;
    }
  }
  consumed_tokens = tokens.size() - (by_id && !request.stop.consume_stop_token ? 1 : 0);
}

}  // namespace mambad
