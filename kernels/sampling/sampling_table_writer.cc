#include "kernels/sampling/sampling_table_writer.h"

#include <bit>

#include "kernels/base/check.h"

namespace mambad::kernels {

static_assert(kMaxTableTop == kMaxTopLogprobs);

void SamplingTableWriter::Add(const SamplingTableRow& row) {
  MAMBAD_CHECK(HasRoomFor(
      static_cast<std::int64_t>(row.logit_bias.size() + row.token_counts.size() + row.suppressed.size())));
  const SamplingParams& params = row.params;
  SamplingRow& out = table_.rows[rows_++];
  out = {.seed = row.key.seed,
         .token_index = row.key.token_index,
         .candidate = row.key.candidate,
         .temperature = params.temperature,
         .top_p = params.top_p,
         .min_p = params.min_p,
         .repetition_penalty = params.repetition_penalty,
         .presence_penalty = params.presence_penalty,
         .frequency_penalty = params.frequency_penalty,
         .top_k = params.top_k,
         .top_logprobs = params.top_logprobs,
         .logprob = params.logprob ? 1 : 0,
         .token_slot = row.token_slot,
         .count_previous = row.count_previous ? 1 : 0};
  const auto here = [&] { return static_cast<std::int32_t>(entries_); };
  out.bias_begin = here();
  for (const LogitBias& bias : row.logit_bias) {
    AddEntry(bias.token, std::bit_cast<std::int32_t>(bias.bias));
  }
  out.counts_begin = here();
  for (const TokenCount& count : row.token_counts) AddEntry(count.token, count.output_count);
  out.suppressed_begin = here();
  for (const std::int32_t token : row.suppressed) AddEntry(token, 0);
  out.list_end = here();
}

}  // namespace mambad::kernels
