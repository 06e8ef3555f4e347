// A bf16 weight on a GPU, packed as core matrices, and the order of its sums.
//
// The reduction contract: K is cut into `segments` of segment_chunks() chunks; a segment's k16 steps go in
// ascending order into one fp32 accumulator that starts at 0, and the segments' sums are added in ascending
// order. The cut follows from the weight's shape alone, so every kernel gives the same bits for every number
// of rows. x_proj of small layers has an order of its own: x_proj_fold.h.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_PACKED_WEIGHT_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_PACKED_WEIGHT_H_

#include <cstdint>

#include "kernels/linear/gpu_layout.h"

namespace mambad::kernels {

inline constexpr int kMaxSegments = 8;

struct PackedWeight {
  const std::uint16_t* data = nullptr;  // device memory, PackedElements(rows, cols); 128-byte aligned
  std::int32_t rows = 0;                // M
  std::int32_t cols = 0;                // K

  int k_pad() const { return static_cast<int>(RoundUp(cols, kChunkK)); }
  int tiles() const { return static_cast<int>(RoundUp(rows, kTileRows) / kTileRows); }
  int chunks() const { return k_pad() / kChunkK; }
  int segments() const { return (chunks() + segment_chunks() - 1) / segment_chunks(); }
  // Up to a power of two of segments, enough (tile, segment) pieces to occupy a card of 100 to 150
  // multiprocessors; twice as many where there are many tiles. The last segment may be shorter.
  int segment_chunks() const {
    constexpr int kManyTiles = 64, kPieces = 160;
    const int pieces = tiles() >= kManyTiles ? tiles() / 2 : tiles();
    int most = 1;
    while (most < kMaxSegments && 2 * most * pieces <= kPieces) most *= 2;
    return (chunks() + most - 1) / most;
  }
};

// Packs `from` (rows, cols) row-major bf16, in device memory, into `to`. Null, or what the driver said.
const char* PackWeight(const std::uint16_t* from, std::int32_t rows, std::int32_t cols, std::uint16_t* to,
                       void* stream);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_PACKED_WEIGHT_H_
