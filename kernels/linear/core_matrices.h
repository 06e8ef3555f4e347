// A bf16 weight of the prompt path, as linear/gpu_layout.h packs it: a slab is a chunk of k.
#ifndef MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_
#define MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_

#include <cstdint>

#include "kernels/base/token_tiles.h"
#include "kernels/linear/gpu_layout.h"

namespace mambad::kernels {

static_assert(kSlabChannels == kChunkK);

struct CoreMatrices {
  const void* data = nullptr;  // device memory, 128-byte aligned
  std::int64_t rows = 0;       // M, outputs
  std::int64_t cols = 0;       // K, inputs

  constexpr std::int64_t row_blocks() const { return RoundUp(rows, kTileRows) / kCore; }
  constexpr std::int64_t slabs() const { return Slabs(cols); }
  constexpr std::int64_t elements() const { return PackedElements(rows, cols); }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_CORE_MATRICES_H_
