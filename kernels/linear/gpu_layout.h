// How a packed weight (M, K) lies in a GPU's memory.
//
//   f32   row major, (M, K)
//   bf16  8x8 core matrices, [row block][k block][8 rows][8 k]: rows padded with zeros to whole groups of 128, K
//         to a multiple of 64. The 16 bytes of a row in a core matrix are what ldmatrix and wgmma read as one
//         unit, and a warp that loads 16 rows x 32 k reads two runs of 512 bytes: one copy serves decode and prompts.
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
MAMBAD_HOST_DEVICE constexpr std::int64_t CoreIndex(std::int64_t m, std::int64_t k, std::int64_t padded_cols) {
  return m / kCoreRows * kCoreRows * padded_cols + k / kCoreCols * kCoreRows * kCoreCols + m % kCoreRows * kCoreCols +
         k % kCoreCols;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_GPU_LAYOUT_H_
