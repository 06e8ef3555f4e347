// Where an element of a bf16 matrix lies on a GPU: 8x8 core matrices, the unit that ldmatrix and unswizzled
// wgmma read. Rows go in blocks of 8, k in blocks of 8:
//
//   [row block][k block][row in block][8 k]
//
// A row block is contiguous over k, so a piece of a product (some rows, a range of k) is a few bulk copies.
// Weights have rows padded to kTileRows and k to kPadK, both with zeros. Activations of a step have `height`
// rows in a block, 8 or (below 8 rows) all of them: padding rows would cost their bytes in every block that
// reads them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_CORE_MATRIX_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_CORE_MATRIX_H_

#include <cstdint>

#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr int kCore = 8;         // rows and k of a core matrix
inline constexpr int kTileRows = 128;   // rows of a packed weight come in tiles
inline constexpr int kPadK = 64;

constexpr MAMBAD_LANE std::int64_t RoundUp(std::int64_t value, std::int64_t unit) {
  return (value + unit - 1) / unit * unit;
}

// Elements of a packed (rows, cols) weight.
constexpr std::int64_t PackedElements(std::int64_t rows, std::int64_t cols) {
  return RoundUp(rows, kTileRows) * RoundUp(cols, kPadK);
}

// Rows in a block of the activations of a step of `rows` rows.
constexpr MAMBAD_LANE int BlockHeight(int rows) { return rows < kCore ? rows : kCore; }

// The index of element (row, k); k_pad is k rounded up to kPadK.
constexpr MAMBAD_LANE std::int64_t CoreIndex(int row, int k, int k_pad, int height) {
  const std::int64_t block = static_cast<std::int64_t>(row / kCore) * (k_pad / kCore) + k / kCore;
  return (block * height + row % kCore) * kCore + k % kCore;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_CORE_MATRIX_H_
