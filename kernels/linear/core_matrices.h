// How a bf16 weight lies in GPU memory: 8x8 core matrices, the smallest block that both matrix instructions
// read as it is (mma.sync fragments by coalesced loads, wgmma operands without a swizzle).
//
//   [tile of 128 rows][slab of 64 k][row block of 8][k block of 8][8 rows][8 k]   bf16
//
// Rows are padded to kRowPadding and k to kSlabChannels, with zeros. The row blocks of a tile and slab are
// contiguous.
#ifndef MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_
#define MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_

#include <cstdint>

#include "kernels/base/token_tiles.h"

namespace mambad::kernels {

struct CoreMatrices {
  static constexpr std::int64_t kRowPadding = 128;

  const void* data = nullptr;  // device memory, 128-byte aligned
  std::int64_t rows = 0;       // M, outputs
  std::int64_t cols = 0;       // K, inputs

  constexpr std::int64_t row_blocks() const {
    return (rows + kRowPadding - 1) / kRowPadding * (kRowPadding / 8);
  }
  constexpr std::int64_t slabs() const { return Slabs(cols); }
  constexpr std::int64_t elements() const { return row_blocks() * slabs() * 8 * kSlabChannels; }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_
