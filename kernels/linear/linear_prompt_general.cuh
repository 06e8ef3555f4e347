// The prompt product on cards without wgmma: mma.sync on fragments loaded straight from the tiles. Same sums
// in the same order; no shared memory, no tuning.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_GENERAL_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_GENERAL_CUH_

#include "kernels/device/ampere.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/linear/linear_prompt.cuh"

namespace mambad::kernels {

inline constexpr int kGeneralColumns = 64;

// What a product is added to, where it lies.
struct OldInMemory {
  __device__ __forceinline__ void Begin() const {}
  template <bool kWhole, class Place>
  __device__ __forceinline__ OldSums Load(const Place& place, int group, int r) const {
    return place.template Old<kWhole>(group, r);
  }
  __device__ __forceinline__ void End() const {}
};

// A warp: 16 tokens x kGeneralColumns outputs. Grid: (token tiles, columns, segments); 8 warps along tokens.
template <class Epilogue>
__global__ void __launch_bounds__(256)
    LinearPromptGeneral(const LinearPromptShape shape, const Epilogue epilogue) {
  WaitForPreviousKernel();
  AllowNextKernel();  // behind the wait: see LinearPromptHopper
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int segment = blockIdx.z;
  const std::int64_t first_slab = segment * shape.segment_slabs;
  const std::int64_t token_block = blockIdx.x * 16 + warp * 2;
  const std::int64_t row_block = blockIdx.y * (kGeneralColumns / 8);
  float sum[1][kGeneralColumns / 8 * 4] = {};
  for (int slab = 0; slab < shape.SegmentSlabs(segment); ++slab) {
    // A lane's pair lies at its own place of each core matrix: 4 bytes a lane, 128 a warp.
    const std::uint32_t* x = reinterpret_cast<const std::uint32_t*>(
                                 shape.x + ((first_slab + slab) * shape.token_blocks + token_block) * 512) +
                             lane;
    for (int k = 0; k < 4; ++k, x += 64) {
      const std::uint32_t a[4] = {x[0], x[256], x[32], x[288]};
#pragma unroll
      for (int n = 0; n < kGeneralColumns / 8; ++n) {
        const int block = min(static_cast<int>(row_block) + n, shape.row_blocks - 1);
        const std::uint32_t* w = reinterpret_cast<const std::uint32_t*>(
                                     shape.W(block, static_cast<int>(first_slab) + slab) + k * 128) +
                                 lane;
        Mma(reinterpret_cast<float(&)[4]>(sum[0][n * 4]), a, w[0], w[32]);
      }
    }
  }
  const std::uint32_t token = static_cast<std::uint32_t>(token_block) * 8 + lane / 4;
  SumStores<2, kGeneralColumns / 8, Epilogue> stores(epilogue, segment, token,
                                                     blockIdx.y * kGeneralColumns + lane % 4 * 2);
  if constexpr (Epilogue::kScales) {
    RowScales<2> scales;
    for (int r = 0; r < 2; ++r) {
      float scale[1];
      epilogue.norm.Scales(token + RowToken(r), scale);
      scales.of[r] = scale[0];
    }
    stores.Store(sum, scales);
  } else if constexpr (Epilogue::kAdds) {
    stores.Store(sum, OldInMemory());
  } else {
    stores.Store(sum);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_GENERAL_CUH_
