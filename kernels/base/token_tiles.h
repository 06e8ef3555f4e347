// How the activations of the prompt path lie in GPU memory.
//
//   [slab of 64 channels][token block of 8][channel block of 8][8 tokens][8 channels]
//
// In bf16 an 8x8 block is a core matrix of wgmma, a tile of tokens of one slab is one contiguous copy, and
// the accumulator fragment of a matrix instruction (8x8) is stored as 128 consecutive bytes. Tokens are
// padded to kTokenTile; where the buffer feeds a matrix product the channels past the last one are zero.
#ifndef MAMBAD_KERNELS_BASE_TOKEN_TILES_H_
#define MAMBAD_KERNELS_BASE_TOKEN_TILES_H_

#include <cstdint>

#include "kernels/base/round_up.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr std::int64_t kSlabChannels = 64;
inline constexpr std::int64_t kTokenTile = 128;

MAMBAD_LANE constexpr std::int64_t Slabs(std::int64_t channels) {
  return (channels + kSlabChannels - 1) / kSlabChannels;
}
MAMBAD_LANE constexpr std::int64_t PaddedTokens(std::int64_t tokens) { return RoundUp(tokens, kTokenTile); }
constexpr std::int64_t TileElements(std::int64_t tokens, std::int64_t channels) {
  return PaddedTokens(tokens) * Slabs(channels) * kSlabChannels;
}

// Index of (token, channel) among the elements of a buffer with `token_blocks` blocks of 8 tokens.
MAMBAD_LANE std::int64_t TileIndex(std::int64_t token_blocks, std::uint32_t token, std::uint32_t channel) {
  return ((channel / 64 * token_blocks + token / 8) * 8 + channel % 64 / 8) * 64 + token % 8 * 8 +
         channel % 8;
}

// What a token adds to the index of (0, channel).
MAMBAD_LANE std::uint32_t TokenOffset(std::uint32_t token) { return token / 8 * 512 + token % 8 * 8; }

// The scan reads four tokens of a channel at once: delta's 8x8 blocks are [8 channels][8 tokens].
MAMBAD_LANE std::int64_t DeltaIndex(std::int64_t token_blocks, std::uint32_t token, std::uint32_t channel) {
  return TileIndex(token_blocks, token / 8 * 8 + channel % 8, channel / 8 * 8 + token % 8);
}
MAMBAD_LANE std::uint32_t DeltaTokenOffset(std::uint32_t token) { return token / 8 * 512 + token % 8; }

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_TOKEN_TILES_H_
