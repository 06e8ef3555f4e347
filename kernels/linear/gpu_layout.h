// How a packed weight (M, K) lies in a GPU's memory.
//
//   f32   row major, (M, K)
//   bf16  8x8 core matrices, the unit that ldmatrix and unswizzled wgmma read, so that one copy serves decode
//   and
//         prompts: [tile of 128 rows][chunk of 64 k][row block of 8][k block of 8][8 rows][8 k], padded with
//         zeros. What one bulk copy fetches (rows of a tile, 64 k) is contiguous.
#ifndef MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_
#define MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_

#include <cstdint>

#include "kernels/base/host_device.h"

namespace mambad::kernels {

inline constexpr std::int64_t kCoreRows = 8;
inline constexpr std::int64_t kCoreCols = 8;
inline constexpr std::int64_t kCoreRowPadding = 128;
inline constexpr std::int64_t kCoreColPadding = 64;

MAMBAD_HOST_DEVICE constexpr std::int64_t PaddedCoreRows(std::int64_t rows) {
  return (rows + kCoreRowPadding - 1) / kCoreRowPadding * kCoreRowPadding;
}

MAMBAD_HOST_DEVICE constexpr std::int64_t PaddedCoreCols(std::int64_t cols) {
  return (cols + kCoreColPadding - 1) / kCoreColPadding * kCoreColPadding;
}

// The index of element (m, k) of a bf16 weight; padded_cols is PaddedCoreCols(K).
MAMBAD_HOST_DEVICE constexpr std::int64_t CoreIndex(std::int64_t m, std::int64_t k,
                                                    std::int64_t padded_cols) {
  const std::int64_t chunk = m / kCoreRowPadding * (padded_cols / kCoreColPadding) + k / kCoreColPadding;
  const std::int64_t row_block = chunk * (kCoreRowPadding / kCoreRows) + m % kCoreRowPadding / kCoreRows;
  return ((row_block * (kCoreColPadding / kCoreCols) + k % kCoreColPadding / kCoreCols) * kCoreRows +
          m % kCoreRows) *
             kCoreCols +
         k % kCoreCols;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_
