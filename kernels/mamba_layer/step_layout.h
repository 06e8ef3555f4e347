// Where an element of a decode step's activations lies: core matrices as in linear/gpu_layout.h,
//
//   [chunk of 64 k][row block][k block][height rows][8 k]
//
// `height` is 8 or, below 8 rows, all of them: padding rows would cost their bytes in every block that reads
// them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STEP_LAYOUT_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_STEP_LAYOUT_H_

#include <cstdint>

#include "kernels/linear/gpu_layout.h"

namespace mambad::kernels {

// How the activations of a step of `rows` rows are laid out.
struct StepLayout {
  int row_blocks;
  int height;

  static constexpr MAMBAD_LANE StepLayout Of(int rows) {
    return {(rows + kCore - 1) / kCore, rows < kCore ? rows : kCore};
  }
  constexpr MAMBAD_LANE std::int64_t Index(int row, int k) const {
    const auto r = static_cast<std::uint32_t>(row), c = static_cast<std::uint32_t>(k);  // cheaper to divide
    const std::uint32_t row_block = c / kChunkK * row_blocks + r / kCore;
    return ((row_block * (kChunkK / kCore) + c % kChunkK / kCore) * height + r % kCore) * kCore + c % kCore;
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STEP_LAYOUT_H_
