// The arguments of token_feed, apart from the op so that CUDA files need not read Abseil. Open token_feed.h
// first.
#ifndef MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ARGS_H_
#define MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ARGS_H_

#include <cstdint>

namespace mambad::kernels {

// In place of a token id: what was drawn last for the row's slot.
inline constexpr std::uint32_t kDrawnToken = 0xffffffff;

struct TokenFeedArgs {
  const std::uint32_t* tokens = nullptr;  // (B)
  const std::int32_t* slots = nullptr;    // (B), distinct, or kNoSlot
  const std::int32_t* stop_offsets =
      nullptr;  // (B + 1), ascending: row r owns stops[stop_offsets[r], [r + 1])
  const std::uint32_t* stops = nullptr;
  const std::int32_t* drawn = nullptr;  // (S), by slot
  std::uint32_t* row_tokens = nullptr;  // (B), written
  std::int32_t* row_slots = nullptr;    // (B), written
  std::int64_t rows = 0;                // B
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_TOKEN_FEED_TOKEN_FEED_ARGS_H_
