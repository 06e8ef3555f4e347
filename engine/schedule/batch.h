// Batch: the rows of one step, or of one pass over prompts, as arrays. Decode rows and prompt chunks never
// share a matrix product: given both, the model runs the decode rows first, then the chunks.
//
// Symbols: B decode rows, C chunks, T packed prompt tokens, S slots of the pool.
#ifndef MAMBAD_ENGINE_SCHEDULE_BATCH_H_
#define MAMBAD_ENGINE_SCHEDULE_BATCH_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <utility>
#include <vector>

#include "kernels/sampling/sampling.h"
#include "kernels/token_feed/token_feed_args.h"

namespace mambad {

using kernels::kDrawnToken;

inline constexpr size_t kStopTokensMax = 64;  // stop ids of a request, beside the model's end of sequence

// All that one draw depends on beside its row of logits (see kernels/sampling/sampling.h). A candidate owns
// it from tick to tick.
struct SamplingRow {
  kernels::SamplingParams params;  // logprob and top_logprobs included
  kernels::SamplingKey key;
  std::vector<kernels::LogitBias> logit_bias;     // tokens distinct
  std::vector<kernels::TokenCount> token_counts;  // tokens distinct; empty when no penalty is on
  std::vector<int32_t> suppressed;  // distinct tokens, never chosen before the `suppressed_below`th token
  uint64_t suppressed_below = 0;

  // The tokens that the draw of `token_index` must not choose.
  std::span<const int32_t> SuppressedAt(uint64_t token_index) const {
    return token_index + 1 < suppressed_below ? std::span<const int32_t>(suppressed)
                                              : std::span<const int32_t>();
  }
};

// Which hidden row the head is applied to.
enum class LogitsSource {
  kDecodeRow,    // index: decode row in [0, B)
  kPromptToken,  // index: packed prompt token in [0, T)
  kSlot,         // index: slot in [0, S); the slot's last_hidden, as it is before this step or pass
};

// One row of logits, and what is wanted of it: a sample, the log-probability of a given token, or neither
// (then only whether the row is finite). Never both: several tasks may name the same row.
struct LogitsTask {
  LogitsSource source = LogitsSource::kDecodeRow;
  uint32_t index = 0;
  const SamplingRow* sampling = nullptr;  // null: draw nothing. Outlives Forward, or Launch.
  // The output has one token more than `sampling` counts: the one that this row consumes as kDrawnToken.
  bool one_unseen = false;
  std::optional<uint32_t> target;  // the token whose log-probability is wanted
  uint32_t top_logprobs = 0;       // [0, 20]; beside the target
};

struct LogitsResult {
  bool finite = true;  // false: a NaN or infinity in this row's logits; the rest is unspecified
  uint32_t token = 0;  // the sample
  float logprob = 0;   // of the sample, under the raw logits; when asked for
  float target_logprob = 0;
  bool target_is_greedy = false;  // target is the most likely token (ties: the lowest id)
  std::vector<std::pair<uint32_t, float>>
      top;  // of the sample or the target: descending, ties lowest id first
};

// Where a chunk's narrow state lives in fp32, and whether its prompt begins or ends with it.
struct WideChunk {
  int32_t slot = 0;
  bool begins = false;
  bool ends = false;
};

struct Batch {
  std::vector<int32_t> decode_slots;    // (B), distinct
  std::vector<uint32_t> decode_tokens;  // (B), consumed by this step
  // Launch alone: a token may be kDrawnToken, what the launch before drew for the same slot. If that is one
  // of the row's stops, the row consumes nothing and its result means nothing.
  std::vector<uint32_t> stops;
  std::vector<uint32_t> stop_offsets;  // (B + 1) into stops; empty: none

  std::vector<int32_t>
      chunk_slots;  // (C), distinct, and distinct from decode_slots; ForwardParts: or kNoSlot
  std::vector<uint32_t> chunk_offsets;  // (C + 1), ascending from 0 to T; empty when C is 0
  std::vector<uint32_t> prompt_tokens;  // (T), packed
  std::vector<WideChunk> chunk_wide;    // (C), slots distinct; empty when the model's state is not narrow

  std::vector<LogitsTask> logits;

  bool empty() const { return decode_slots.empty() && chunk_slots.empty() && logits.empty(); }
  void Clear() { *this = Batch(); }
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_BATCH_H_
