// Y(T, M) = X(T, K) W(M, K)^T for prompts: bf16 token tiles times core matrices, fp32 accumulators.
//
// Every element is a sum over k in ascending steps of 16 in one accumulator per K segment, whatever the tile:
// the bits of a token's row depend on that row and the weight alone. Segments are a constant of the weight
// (more than one only where the grid would be too small, in x_proj); the next kernel adds them in order.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_

#include <cuda_bf16.h>

#include <cstdint>

namespace mambad::kernels {

struct LinearPromptShape {
  const __nv_bfloat16* x;      // token tiles
  const __nv_bfloat16* w;      // core matrices
  std::int64_t token_blocks;   // of 8, of x
  std::int32_t token_tiles;    // of kTokenTile
  std::int32_t slabs;          // of 64 along k
  std::int32_t row_blocks;     // of 8, of w
  std::int32_t column_tiles;   // over M
  std::int32_t segments;       // K segments
  std::int32_t segment_slabs;  // slabs of each but perhaps the last

  __device__ int SegmentSlabs(int segment) const {
    const int left = slabs - segment * segment_slabs;
    return left < segment_slabs ? left : segment_slabs;
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_
