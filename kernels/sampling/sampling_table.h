// What the host tells the GPU's sampler about each row, and what it gets back: plain data, copied as it lies.
//
// One block holds the table: `rows` parameter rows, then `entries` list entries. A row's three lists are
// neighbours: [bias_begin, counts_begin) biases, [counts_begin, suppressed_begin) counts,
// [suppressed_begin, list_end) suppressed tokens; tokens are distinct within a list.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_H_

#include <cstddef>
#include <cstdint>

namespace mambad::kernels {

inline constexpr std::int32_t kMaxTableTop = 20;  // kMaxTopLogprobs
inline constexpr std::int32_t kNoTokenSlot = -1;

// The meaning of the parameters is that of SamplingParams and SamplingKey (sampling.h).
struct SamplingRow {
  std::uint64_t seed = 0;
  std::uint64_t token_index = 0;
  std::uint32_t candidate = 0;
  float temperature = 0;
  float top_p = 0;
  float min_p = 0;
  float repetition_penalty = 0;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::int32_t top_k = 0;
  std::int32_t top_logprobs = 0;
  std::int32_t logprob = 0;
  // Where in the device's array of tokens this row's token goes (kNoTokenSlot: nowhere).
  std::int32_t token_slot = kNoTokenSlot;
  // 1: the penalties also count the token that stands in that place, an output the host has not seen yet.
  std::int32_t count_previous = 0;
  std::int32_t bias_begin = 0;
  std::int32_t counts_begin = 0;
  std::int32_t suppressed_begin = 0;
  std::int32_t list_end = 0;
};
static_assert(sizeof(SamplingRow) == 80);

struct SamplingListEntry {
  std::int32_t token;
  std::int32_t value;  // bits of the bias; output count; unused for a suppressed token
};

// SampledToken, as the GPU writes it. Entries of top beyond top_count are unspecified.
struct SampledRow {
  std::int32_t token;
  float logprob;
  std::int32_t finite;
  std::int32_t top_count;
  std::int32_t top_token[kMaxTableTop];
  float top_logprob[kMaxTableTop];
};

// TokenScore, as the GPU writes it.
struct ScoredRow {
  float logprob;
  std::int32_t rank;
  std::int32_t finite;
  std::int32_t top_count;
  std::int32_t top_token[kMaxTableTop];
  float top_logprob[kMaxTableTop];
};

// A view of one copy of the table, in pinned or device memory.
struct SamplingTable {
  SamplingRow* rows = nullptr;
  SamplingListEntry* entries = nullptr;

  static constexpr std::size_t Bytes(std::int64_t max_rows, std::int64_t max_entries) {
    return max_rows * sizeof(SamplingRow) + max_entries * sizeof(SamplingListEntry);
  }
  // REQUIRES: `block` has Bytes(max_rows, ...) bytes and is 16-byte aligned.
  static SamplingTable In(void* block, std::int64_t max_rows) {
    SamplingRow* rows = static_cast<SamplingRow*>(block);
    return {rows, reinterpret_cast<SamplingListEntry*>(rows + max_rows)};
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_TABLE_H_
