// The arguments of selective_scan, apart from the op so that CUDA files need not read Abseil. Open
// selective_scan.h first.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_ARGS_H_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_ARGS_H_

#include <cstdint>

#include "kernels/base/slots.h"

namespace mambad::kernels {

inline constexpr std::int64_t kMaxStateSize = 256;

struct SelectiveScanParams {
  const float* decay_log2 = nullptr;  // (N, D), from PackDecay
  const float* delta_bias = nullptr;  // (D), or null
  const float* skip = nullptr;        // (D): the model's D
  std::int64_t channels = 0;          // D >= 1
  std::int64_t state_size = 0;        // N in [1, kMaxStateSize]
};

// The inputs of every token or row. delta_raw is dt_proj's output before its bias; z the gate half of
// in_proj's output; b and c lie inside x_proj's output.
struct SelectiveScanInputs {
  const float* x = nullptr;          // (T, D), after convolution and SiLU
  std::int64_t x_stride = 0;         // floats, >= D
  const float* delta_raw = nullptr;  // (T, D)
  std::int64_t delta_stride = 0;     // floats, >= D
  const float* z = nullptr;          // (T, D)
  std::int64_t z_stride = 0;         // floats, >= D
  const float* b = nullptr;          // (T, N)
  const float* c = nullptr;          // (T, N)
  std::int64_t bc_stride = 0;        // floats between tokens of b, and of c; >= N
};

// Packed chunks: chunk i is the tokens [offsets[i], offsets[i + 1]).
struct SelectiveScanPrefillArgs {
  SelectiveScanParams params;
  SelectiveScanInputs in;
  float* y = nullptr;         // (T, D)
  std::int64_t y_stride = 0;  // floats, >= D
  std::int64_t chunks = 0;    // >= 0
  const std::int64_t* offsets =
      nullptr;  // (chunks + 1), ascending, offsets[0] >= 0; empty chunks are allowed
  const std::int32_t* slot_index = nullptr;  // (chunks)
  SlotView state;                            // (N, D) per slot
};

// One token a row.
struct SelectiveScanStepArgs {
  SelectiveScanParams params;
  SelectiveScanInputs in;                    // T = B
  float* y = nullptr;                        // (B, D)
  std::int64_t y_stride = 0;                 // floats, >= D
  std::int64_t rows = 0;                     // B >= 0
  const std::int32_t* slot_index = nullptr;  // (B)
  SlotView state;                            // (N, D) per slot, fp32 or bf16
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_ARGS_H_
