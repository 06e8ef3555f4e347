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
  std::int32_t live_blocks;    // of token_blocks, those that have tokens
  std::int32_t slabs;          // of 64 along k
  std::int32_t row_blocks;     // of 8, of w
  std::int32_t column_tiles;   // over M
  std::int32_t segments;       // K segments
  std::int32_t segment_slabs;  // slabs of each but perhaps the last

  // Where a row block's part of a slab begins; those of one tile of 16 row blocks follow each other.
  __device__ const __nv_bfloat16* W(int row_block, int slab) const {
    return w + ((static_cast<std::int64_t>(row_block / 16) * slabs + slab) * 16 + row_block % 16) * 512;
  }

  __device__ int SegmentSlabs(int segment) const {
    const int left = slabs - segment * segment_slabs;
    return left < segment_slabs ? left : segment_slabs;
  }
};

// Hands the `kBlocks` 8x8 accumulator blocks of one of a lane's rows to the epilogue, as many at a
// time as registers allow: every group waits for memory once.
template <int kBlocks, class Row>
__device__ __forceinline__ void StoreRow(const Row& row, std::uint32_t channel, const float* sum) {
  constexpr int kGroup = kBlocks == 32 ? 4 : kBlocks % 12 == 0 ? 6 : kBlocks <= 16 ? kBlocks : kBlocks / 2;
  static_assert(kBlocks % kGroup == 0);
#pragma unroll
  for (int first = 0; first < kBlocks; first += kGroup) {
    float2 fetched[kGroup];
#pragma unroll
    for (int i = 0; i < kGroup; ++i) fetched[i] = row.Fetch(channel + (first + i) * 8);
#pragma unroll
    for (int i = 0; i < kGroup; ++i) {
      row.Store(channel + (first + i) * 8, fetched[i], sum[(first + i) * 4], sum[(first + i) * 4 + 1]);
    }
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_CUH_
