// How a packed weight (M, K) lies in a GPU's memory.
//
//   f32   row major, (M, K)
//   bf16  8x8 core matrices, the unit that ldmatrix and unswizzled wgmma read, so that one copy serves decode
//         steps and prompts:
//           [tile of 128 rows][chunk of 64 k][row block of 8][k block of 8][8 rows][8 k], padded with zeros.
//         Eight core matrices, 64 k of 8 rows, make a row block of 1 KB; row blocks of the same k follow each
//         other, so what one bulk copy fetches (some rows, 64 k) is contiguous. Small copies would be bound
//         by the copy engine: 1 KB each moved 26 GB/s into a multiprocessor.
#ifndef MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_
#define MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_

#include <cstdint>

#include "kernels/base/round_up.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr int kCore = 8;  // rows and k of a core matrix
inline constexpr int kTileRows = 128;
inline constexpr int kTileBlocks = kTileRows / kCore;  // row blocks of a tile
inline constexpr int kChunkK = 64;
inline constexpr int kRowBlockBytes = kCore * kChunkK * 2;

// Elements of a packed (rows, cols) bf16 weight.
constexpr std::int64_t PackedElements(std::int64_t rows, std::int64_t cols) {
  return RoundUp(rows, kTileRows) * RoundUp(cols, kChunkK);
}

// The index of element (row, k) of a bf16 weight; k_pad is its K rounded up to kChunkK.
constexpr MAMBAD_LANE std::int64_t WeightIndex(int row, int k, int k_pad) {
  const std::int64_t chunk = static_cast<std::int64_t>(row / kTileRows) * (k_pad / kChunkK) + k / kChunkK;
  const std::int64_t row_block = chunk * (kTileRows / kCore) + row % kTileRows / kCore;
  return ((row_block * (kChunkK / kCore) + k % kChunkK / kCore) * kCore + row % kCore) * kCore + k % kCore;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_
