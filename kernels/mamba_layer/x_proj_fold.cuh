// The kernels' side of x_proj_fold.h: one segment's product, the sum of all, and x_proj as a kernel of its
// own for more rows than a block of in_proj holds.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_CUH_

#include <cstdint>

#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/x_proj_fold.h"

namespace mambad::kernels {

// 16 rows of x_proj by 16 channels as mma.sync's A. Lane l holds channels 4 (l % 4) .. +3 of rows l / 4 and
// l / 4 + 8, and B's the same channels of row l / 4 of x: quads of x are operands as they are.
// `from`: the lane's first row and channel, packed.
__device__ __forceinline__ void LoadFoldWeights(const std::uint16_t* from, std::uint32_t (&a)[4]) {
  const uint2 low = *reinterpret_cast<const uint2*>(from);
  const uint2 high = *reinterpret_cast<const uint2*>(from + kCore * kChunkK);
  a[0] = low.x, a[1] = high.x, a[2] = low.y, a[3] = high.y;
}

// What in_proj writes and the state kernel reads: (rows, segments, kFoldStride) floats.
struct FoldedSums {
  float* data;
  int segments;
  int width;  // R + 2 N

  __device__ __forceinline__ float* At(int row, int segment) const {
    return data + (row * segments + segment) * kFoldStride;
  }

  // The sums of a row's groups, in shared memory.
  struct Groups {
    float4 sums[kMostFoldGroups][kFoldStride / kQuad];

    // `from`: the group's first segment, at this quad.
    __device__ __forceinline__ void Keep(int group, int quad, const float* from) {
      float4 part[kFoldGroup];
#pragma unroll
      for (int s = 0; s < kFoldGroup; ++s) part[s] = LoadFresh4(from + s * kFoldStride);
#pragma unroll
      for (int s = 1; s < kFoldGroup; ++s) part[0] = AddEach(part[0], part[s]);
      sums[group][quad] = part[0];
    }
    __device__ __forceinline__ float Total(int i, const FoldedSums& folded) const {
      const float* const from = &sums[0][0].x + i;
      float total = from[0];
#pragma unroll
      for (int g = 1; g < kMostFoldGroups; ++g) {
        if (g < folded.segments / kFoldGroup) total = __fadd_rn(total, from[g * kFoldStride]);
      }
      return total;
    }
  };
};

struct FoldedXProj {
  const std::uint16_t* weights;  // packed (R + 2 N, D)
  int k_pad;
  FoldedSums sums;

  // Of 16 rows of x_proj by a segment's channels.
  struct Weights {
    std::uint32_t a[kFoldTiles][4];
  };

  __device__ __forceinline__ void Load(int segment, int row0, Weights& to) const {
    const int lane = threadIdx.x % 32;
    const std::uint16_t* const from =
        weights + WeightIndex(row0 + lane / 4, segment * kFoldChannels + lane % 4 * kQuad, k_pad);
#pragma unroll
    for (int i = 0; i < kFoldTiles; ++i) LoadFoldWeights(from + i * 16 * kCore, to.a[i]);
  }
  // quads[tile][row of x][quad of 4 channels], in shared memory; by a warp. `writes`: as for an output.
  template <int kHeight>
  __device__ __forceinline__ void Multiply(int segment, int row0, const Weights& w, const uint2* quads,
                                           bool writes) const {
    const int lane = threadIdx.x % 32;
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < kFoldTiles; ++i) {
      const uint2 b = quads[(i * kHeight + lane / 4 % kHeight) * 4 + lane % 4];
      hopper::Mma(sum, w.a[i], b.x, b.y);
    }
    const int row = lane % 4 * 2;
    float* const to =
        sums.At(row, segment) + row0 + lane / 4;  // past the width, to the stride: nobody reads it
    if (row >= kHeight || !writes) return;
    to[0] = sum[0];
    to[8] = sum[2];
    if (row + 1 >= kHeight) return;
    to[sums.segments * kFoldStride] = sum[1];
    to[sums.segments * kFoldStride + 8] = sum[3];
  }
};

struct XProjSumsArgs {
  const std::uint16_t* weights;  // packed (width, D)
  const std::uint16_t* x;        // (rows, D) core matrices
  float* dt_bc;                  // (rows, width)
  std::int32_t rows;             // of x, a multiple of 8
  std::int32_t channels;         // D
  std::int32_t width;
};

struct XProjSumsShape {
  static constexpr int kThreads = 256;
  static constexpr int kRowTiles = 2;  // of 8 rows of x, a block
  static constexpr int kRows = kRowTiles * kCore;
  static constexpr int kStride = 20;  // floats between rows of x of a group's sums
  static constexpr int kSteps = kFoldGroup * kFoldTiles;
  static constexpr int kChunkSteps = kChunkK / 16;
};

// A group's sums for 16 rows of x_proj by 8 rows of x.
__device__ __forceinline__ void MultiplyGroup(const std::uint32_t (&a)[XProjSumsShape::kSteps][4],
                                              const uint2 (&b)[XProjSumsShape::kSteps], float (&total)[4]) {
#pragma unroll
  for (int s = 0; s < kFoldGroup; ++s) {
    float sum[4] = {};
#pragma unroll
    for (int i = s * kFoldTiles; i < (s + 1) * kFoldTiles; ++i) hopper::Mma(sum, a[i], b[i].x, b[i].y);
#pragma unroll
    for (int i = 0; i < 4; ++i) total[i] = s == 0 ? sum[i] : __fadd_rn(total[i], sum[i]);
  }
}

// Grid (tiles of 16 rows of x_proj, tiles of kRows rows of x). A warp takes a group of segments.
static __global__ void __launch_bounds__(XProjSumsShape::kThreads) XProjSums(const XProjSumsArgs args) {
#if __CUDA_ARCH__ >= 900
  using Shape = XProjSumsShape;
  __shared__ float group_sums[kMostFoldGroups][Shape::kRows][Shape::kStride];  // [][of x][of x_proj]
  const int lane = threadIdx.x % 32;
  const int group = threadIdx.x / 32;
  const int groups = args.channels / kFoldGroupChannels;
  const int m0 = blockIdx.x * 16;
  const int row0 = blockIdx.y * Shape::kRows;
  AllowNextKernel();
  std::uint32_t a[Shape::kSteps][4];
  const std::uint16_t* const weights =
      args.weights + WeightIndex(m0 + lane / 4,
                                 min(group, groups - 1) * kFoldGroupChannels + lane % 4 * kQuad,
                                 args.channels);
#pragma unroll
  for (int i = 0; i < Shape::kSteps; ++i)
    LoadFoldWeights(
        weights + i / Shape::kChunkSteps * (kTileRows * kChunkK) + i % Shape::kChunkSteps * (16 * kCore),
        a[i]);
  const std::uint16_t* const x = args.x + StepLayout::Of(args.rows).Index(
                                              row0 + lane / 4, group * kFoldGroupChannels + lane % 4 * kQuad);
  const int chunk = args.rows * kChunkK;  // elements
  WaitForPreviousKernel();
#pragma unroll
  for (int tile = 0; tile < Shape::kRowTiles; ++tile) {
    if (group >= groups || row0 + tile * kCore >= args.rows) break;
    uint2 b[Shape::kSteps];
#pragma unroll
    for (int i = 0; i < Shape::kSteps; ++i)
      b[i] = LoadFreshBf16(x + tile * (kCore * kChunkK) + i / Shape::kChunkSteps * chunk +
                           i % Shape::kChunkSteps * (16 * kCore));
    float total[4];
    MultiplyGroup(a, b, total);
    float* const to = &group_sums[group][tile * kCore + lane % 4 * 2][lane / 4];
    to[0] = total[0];
    to[Shape::kStride] = total[1];
    to[8] = total[2];
    to[Shape::kStride + 8] = total[3];
  }
  __syncthreads();
  static_assert(Shape::kThreads == 16 * Shape::kRows);
  const int row = threadIdx.x / 16;
  const int m = threadIdx.x % 16;
  if (row0 + row >= args.rows || m0 + m >= args.width) return;
  float total = group_sums[0][row][m];
#pragma unroll
  for (int g = 1; g < kMostFoldGroups; ++g) {
    if (g < groups) total = __fadd_rn(total, group_sums[g][row][m]);
  }
  args.dt_bc[(row0 + row) * args.width + m0 + m] = total;
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_CUH_
