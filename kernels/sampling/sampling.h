// sampling: from one row of logits to one token, and the scoring of given tokens.
//
// A result is a pure function of (logits row, parameters, key); no batch, row order or thread enters it.
//
// Order of Sample, on a copy of the row where anything changes it:
//   1. logit bias             l += bias
//   2. repetition penalty     l = l > 0 ? l / r : l * r         for every token of prompt or output
//      presence, frequency    l -= presence + frequency * count   for every token of the output, count = its
//      uses
//   3. suppressed tokens      never chosen (end of sequence before min_output_tokens)
//   4. temperature 0: the largest l, ties to the lowest id. Otherwise weights w = exp((l - max) /
//   temperature)
//   5. top-k                  the k largest
//   6. top-p                  the fewest of the largest whose share of what top-k kept reaches top_p
//   7. min-p                  w >= min_p * the largest w
//   8. the first kept id, ascending, at which the running sum of w passes u * (sum of w), u from Philox
// "Largest" is by l, ties to the lowest id. Reported log-probabilities are log-softmax of the raw row, before
// all of these.
//
// Sources: Holtzman et al., arXiv:1904.09751 (top-p); Nguyen et al., arXiv:2407.01082 (min-p); Keskar et al.,
//   arXiv:1909.05858, section 4.1 (repetition penalty, with the sign rule of Hugging Face's implementation);
//   Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC'11 (Philox4x32-10).
//
// Non-finite rows: a NaN or an infinity anywhere in a row gives finite = false for that row alone; its other
//   fields are unspecified but in range.
// Errors:  InvalidArgument naming the field, before anything is written.
//
// Here are the arguments and results; sampler.h has the op.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_H_

#include <array>
#include <cstdint>
#include <span>

#include "absl/status/status.h"

namespace mambad::kernels {

inline constexpr std::int32_t kMaxTopLogprobs = 20;

struct SamplingParams {
  float temperature = 1.0f;         // [0, 100]; 0 is greedy
  float top_p = 1.0f;               // (0, 1]; 1 is off
  float min_p = 0.0f;               // [0, 1]; 0 is off
  float repetition_penalty = 1.0f;  // (0, 10]; 1 is off
  float presence_penalty = 0.0f;    // [-2, 2]
  float frequency_penalty = 0.0f;   // [-2, 2]
  std::int32_t top_k = 0;           // >= 0; 0 is off
  std::int32_t top_logprobs = 0;    // [0, kMaxTopLogprobs]
  bool logprob = false;             // report the chosen token's log-probability (a second pass over the row)
};

// What makes a draw: the request's seed, the candidate's index, and the index of the token in its request.
struct SamplingKey {
  std::uint64_t seed = 0;
  std::uint64_t token_index = 0;
  std::uint32_t candidate = 0;
};

struct LogitBias {
  std::int32_t token = 0;
  float bias = 0;  // [-100, 100]
};

// A token of the request's prompt or output; output_count is how often the output holds it (0: prompt only).
struct TokenCount {
  std::int32_t token = 0;
  std::int32_t output_count = 0;
};

// Lists of different lengths, packed: row r owns items[offsets[r], offsets[r + 1]). No offsets: every list is
// empty.
template <class T>
struct Ragged {
  std::span<const T> items;
  std::span<const std::int64_t> offsets;

  std::span<const T> Row(std::int64_t row) const {
    if (offsets.empty()) return {};
    return items.subspan(offsets[row], offsets[row + 1] - offsets[row]);
  }
};

struct TokenLogprob {
  std::int32_t token = 0;
  float logprob = 0;
};

struct TopLogprobs {
  std::int32_t count = 0;                            // min(asked for, V)
  std::array<TokenLogprob, kMaxTopLogprobs> tokens;  // largest first, ties to the lowest id
};

struct SampledToken {
  std::int32_t token = 0;
  float logprob = 0;  // 0 unless asked for, by logprob or by top_logprobs > 0
  bool finite = true;
  TopLogprobs top;
};

// The rows of logits that a sampler takes.
struct LogitsShape {
  std::int64_t vocab = 0;     // V in [1, 2^28]
  std::int64_t stride = 0;    // floats between rows, >= V, a multiple of 4
  std::int64_t rows_max = 0;  // >= 0
};

struct SampleArgs {
  const float* logits = nullptr;           // (B, V) fp32, raw, in device memory, 16-byte aligned; not changed
  std::span<const SamplingParams> params;  // (B)
  std::span<const SamplingKey> keys;       // (B)
  Ragged<LogitBias> logit_bias;            // B lists, tokens distinct within a row
  Ragged<TokenCount> token_counts;         // B lists, tokens distinct within a row
  Ragged<std::int32_t> suppressed;         // B lists, distinct within a row and fewer than V
  std::span<SampledToken> results;         // (B)
};

// A table of the tokens drawn last, in a GPU's memory, for steps that start before the host has seen the
// tokens of the one before.
struct DrawnTokens {
  std::int32_t* tokens = nullptr;        // (S); null: there is none
  std::span<const std::int32_t> places;  // (B): where each row's token goes, in [0, S)
  // (B): 1 where the token that stands there is an output of the row that token_counts does not hold yet.
  std::span<const std::uint8_t> unseen;
};

struct TokenScore {
  float logprob = 0;
  std::int32_t rank = 1;   // 1 + the number of tokens before the target (larger logit, or equal and lower id)
  bool is_greedy = false;  // rank == 1
  bool finite = true;
  TopLogprobs top;
};

struct ScoreArgs {
  const float* logits = nullptr;          // (rows, V) fp32 in device memory, 16-byte aligned
  std::span<const std::int32_t> targets;  // (rows), each in [0, V)
  std::int32_t top_logprobs = 0;          // [0, kMaxTopLogprobs], for every row
  std::span<TokenScore> results;          // (rows)
};

// What the comments above demand, but for what they call distinct; CheckSample looks at no result.
absl::Status CheckShape(const LogitsShape& shape);
absl::Status CheckSample(const LogitsShape& shape, const SampleArgs& args, const DrawnTokens& drawn);
absl::Status CheckScore(const LogitsShape& shape, const ScoreArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_H_
