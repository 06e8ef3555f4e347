// The shape and the weights of a Mamba layer, as the fused kernels of a GPU take them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_WEIGHTS_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_WEIGHTS_H_

#include <cstdint>

#include "kernels/mamba_layer/packed_weight.h"

namespace mambad::kernels {

struct MambaLayerShape {
  std::int32_t d_model = 0;  // M
  std::int32_t d_inner = 0;  // D
  std::int32_t d_state = 0;  // N
  std::int32_t d_conv = 0;   // K
  std::int32_t dt_rank = 0;  // R
  float dt_bc_eps = -1.0f;   // FalconMamba's weightless norms on dt, B and C; negative: none

  int dt_bc_width() const { return dt_rank + 2 * d_state; }
  bool operator==(const MambaLayerShape&) const = default;
};

// All in device memory, 16-byte aligned.
struct MambaLayerWeights {
  PackedWeight in_proj;                // (2 D, M)
  PackedWeight x_proj;                 // (R + 2 N, D)
  PackedWeight dt_proj;                // (D, R)
  PackedWeight out_proj;               // (M, D)
  const float* in_bias = nullptr;      // (2 D), or null
  const float* conv_weight = nullptr;  // (K, D), tap-major
  const float* conv_bias = nullptr;    // (D), or null
  const float* dt_bias = nullptr;      // (D)
  const float* decay_log2 = nullptr;   // (N, D), from PackDecay
  const float* skip = nullptr;         // (D)
  const float* out_bias = nullptr;     // (M), or null
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_WEIGHTS_H_
