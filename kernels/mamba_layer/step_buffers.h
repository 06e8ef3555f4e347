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

// What the blocks of one kernel hand each other in a step of up to kMostStackRows rows (handover.cuh):
// kHandedPlaces of each that layers take in turns, and one more where the last layer has its own. All bits
// set before the first step (ClearHanded); a step leaves them so, but for the last layer's.
inline constexpr int kMostStackRows = 2;
inline constexpr int kHandedPlaces = 3;
struct HandedBuffers {
  std::uint16_t* u = nullptr;    // kHandedPlaces (rows, M)
  float* square_sums = nullptr;  // kHandedPlaces (rows, M / 16)
  std::uint16_t* x = nullptr;    // kHandedPlaces + 1 (rows, D)
  std::uint16_t* gate = nullptr;
  std::uint16_t* y = nullptr;
  float* dt_bc = nullptr;   // kHandedPlaces + 1 (rows, R + 2 N)
  float* folded = nullptr;  // kHandedPlaces + 1 (FoldFloats): one row's, in place of dt_bc
  std::size_t bytes = 0;   // of all, from u on
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
  HandedBuffers handed;
};

// Bytes of buffers for up to `rows` rows; BindStepBuffers cuts them out of 256-byte aligned device memory.
// Rows are rounded up to the widest tile: a tile's spare columns read what lies there.
std::size_t StepBufferBytes(int rows, const StepWidths& widths);
StepBuffers BindStepBuffers(std::byte* memory, int rows, const StepWidths& widths);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STEP_BUFFERS_H_
