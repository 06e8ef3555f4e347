// The buffers between the kernels of one layer's prompt pass.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_WORKSPACE_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_WORKSPACE_CUH_

#include <cuda_bf16.h>

#include <cstddef>

#include "kernels/base/prompt_rows.cuh"
#include "kernels/mamba_layer/mamba_layer_prompt.h"
#include "kernels/rms_norm/token_norm.cuh"
#include "kernels/selective_scan/selective_scan_prompt_launch.cuh"

namespace mambad::kernels {

// K of x_proj is cut in this many segments, for want of other parallelism: its outputs are few.
inline constexpr int kXProjSegments = 8;

struct MambaLayerPromptScratch {
  TokenPlace* places;           // (T); first, so that it lies in one place for every layer shape
  float* residual;              // tiles (M), between layers
  __nv_bfloat16* u;             // tiles (M), not yet scaled: token_norm.cuh
  float* square_sums;           // (groups, padded tokens)
  __nv_bfloat16* xz;            // tiles (2 D)
  __nv_bfloat16* x;             // tiles (D)
  float* segments;              // (segments, token blocks, blocks, 8, 8)
  __nv_bfloat16* dt;            // tiles (R)
  float* bc;                    // (rows / 4, 2, N, 4)
  float* delta;                 // tiles (D)
  __nv_bfloat16* y;             // tiles (D)
  std::int64_t segment_blocks;  // of 8 of x_proj's outputs
  std::size_t bytes;

  MambaLayerPromptScratch(const MambaLayerShape& shape, std::int64_t tokens, std::int64_t chunks,
                          void* base) {
    char* const first = static_cast<char*>(base);
    bytes = 0;
    const auto take = [&]<class T>(T*& out, std::int64_t count) {
      out = reinterpret_cast<T*>(first + bytes);
      bytes += (static_cast<std::size_t>(count) * sizeof(T) + 255) / 256 * 256;
    };
    segment_blocks = (shape.dt_rank + 2 * shape.d_state + 7) / 8;
    const std::int64_t bc_rows = BcStart(tokens, chunks) + kBcAlign;
    take(places, tokens);
    take(residual, TileElements(tokens, shape.d_model));
    take(u, TileElements(tokens, shape.d_model));
    take(square_sums, SquareSumGroups(shape.d_model) * PaddedTokens(tokens));
    take(xz, TileElements(tokens, 2 * shape.d_inner));
    take(x, TileElements(tokens, shape.d_inner));
    take(segments, kXProjSegments * PaddedTokens(tokens) * segment_blocks * 8);
    take(dt, TileElements(tokens, shape.dt_rank));
    take(bc, bc_rows * 2 * PaddedStateSize(shape.d_state));
    take(delta, TileElements(tokens, shape.d_inner));
    take(y, TileElements(tokens, shape.d_inner));
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_MAMBA_LAYER_PROMPT_WORKSPACE_CUH_
