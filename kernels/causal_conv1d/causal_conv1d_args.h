// The arguments of causal_conv1d, apart from the op so that CUDA files need not read Abseil. Open
// causal_conv1d.h first.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_ARGS_H_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_ARGS_H_

#include <cstdint>

#include "kernels/base/slots.h"

namespace mambad::kernels {

inline constexpr std::int32_t kMaxConvWidth = 64;

struct CausalConv1dFilter {
  const float* weight = nullptr;     // (K, D): tap-major, the tap of the oldest input first
  const float* bias = nullptr;       // (D), or null
  std::int64_t channels = 0;         // D >= 1
  std::int32_t width = 0;            // K in [1, kMaxConvWidth]
  bool round_input_to_bf16 = false;  // precision bf16
};

// Packed chunks: chunk c is the tokens [offsets[c], offsets[c + 1]).
struct CausalConv1dPrefillArgs {
  CausalConv1dFilter filter;
  const float* x = nullptr;   // (T, D), e.g. the first half of in_proj's output
  std::int64_t x_stride = 0;  // floats between tokens, >= D
  float* y = nullptr;         // (T, D)
  std::int64_t y_stride = 0;  // floats between tokens, >= D
  std::int64_t chunks = 0;    // >= 0
  const std::int64_t* offsets =
      nullptr;  // (chunks + 1), ascending, offsets[0] >= 0; empty chunks are allowed
  const std::int32_t* slot_index = nullptr;  // (chunks)
  SlotView window;                           // (K-1, D) per slot
};

// One token a row.
struct CausalConv1dStepArgs {
  CausalConv1dFilter filter;
  const float* x = nullptr;                  // (B, D)
  std::int64_t x_stride = 0;                 // floats between rows, >= D
  float* y = nullptr;                        // (B, D)
  std::int64_t y_stride = 0;                 // floats between rows, >= D
  std::int64_t rows = 0;                     // B >= 0
  const std::int32_t* slot_index = nullptr;  // (B)
  SlotView window;                           // (K-1, D) per slot
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_ARGS_H_
