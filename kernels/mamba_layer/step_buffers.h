// What one step's kernels hand to each other, in device memory. Rows are a bucket of rows (see IsStepBucket);
// unused ones have kNoSlot. Matrices that a product reads are bf16 core matrices in StepLayout::Of(rows).
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STEP_BUFFERS_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_STEP_BUFFERS_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>

namespace mambad::kernels {

inline constexpr int kMaxStepRows = 512;
// Of a slot, its stride and its tensors, in bytes.
inline constexpr int kStepSlotAlignment = 16;
inline constexpr int kMaxTileColumns = 128;

// 1, 2, 4, 8, or a multiple of 8 up to kMaxStepRows.
constexpr bool IsStepBucket(int rows) {
  return rows == 1 || rows == 2 || rows == 4 || (rows > 0 && rows <= kMaxStepRows && rows % 8 == 0);
}

// The smallest of the buckets that graphs are made for which holds `rows`, 1 to kMaxStepRows.
constexpr int StepBucket(int rows) {
  for (const int bucket : {1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384}) {
    if (rows <= bucket) return bucket;
  }
  return kMaxStepRows;
}

struct StepWidths {
  std::int32_t d_model = 0;
  std::int32_t d_inner = 0;
  std::int32_t dt_bc = 0;  // R + 2 N
};

struct StepBuffers {
  float* residual = nullptr;      // (rows, M)
  std::uint16_t* u = nullptr;     // (rows, M): residual times the next norm's weight
  float* square_sums = nullptr;   // (rows, M / 16): of the residual
  std::uint16_t* x = nullptr;     // (rows, D), after convolution and SiLU
  std::uint16_t* gate = nullptr;  // (rows, D)
  float* dt_bc = nullptr;         // (rows, R + 2 N)
  float* folded =
      nullptr;  // (up to 8 rows, FoldFloats): of a layer whose x_proj is folded, in place of dt_bc
  std::uint16_t* y = nullptr;  // (rows, D)
};

// Bytes of buffers for up to `rows` rows; BindStepBuffers cuts them out of 256-byte aligned device memory.
// Rows are rounded up to the widest tile: a tile's spare columns read what lies there.
std::size_t StepBufferBytes(int rows, const StepWidths& widths);
StepBuffers BindStepBuffers(std::byte* memory, int rows, const StepWidths& widths);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STEP_BUFFERS_H_
