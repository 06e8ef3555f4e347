// The sums that a thread has of a tile of the whole product (whole_product.cuh). What becomes of them is a
// Completion, of whole_convolution.cuh or whole_rows.cuh, which rearranges a warp's sums through shared
// memory, so that its lanes store long pieces of rows.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_SUMS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_SUMS_CUH_

#include <cstdint>

#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"

namespace mambad::kernels {

// What an output does with a tile. One is made before the wait for the previous kernel, by each thread of the
// warps that multiply; Begin() follows that wait, and Complete(args, tile, ring, inputs, total) each tile's
// product, when the output's inputs are there in place `inputs` of the ring.
template <class Shape, class Output>
class Completion;

// As wgmma leaves them: of rows lane / 4 and lane / 4 + 8 of its warp's sixteen rows of x, two channels of
// every block of eight; in total[block * 4 + row * 2 + channel].
template <class Shape>
struct WholeLane {
  // Of eight channels: of both halves of the rows of W, or of one.
  static constexpr int kBlocks = Shape::kHalfBlocks * (Shape::kSplitsX ? 2 : 1);

  int half;         // the first of those halves
  int warp_column;  // the first of the sixteen rows, from the tile's first

  __device__ WholeLane() {
    const int warp = static_cast<int>(threadIdx.x) / 32;
    half = Shape::kSplitsX ? 0 : warp / 4;
    warp_column = (Shape::kSplitsX ? warp : warp % 4) * 16;
  }
  static __device__ __forceinline__ int Lane() { return static_cast<int>(threadIdx.x % 32); }
};

// The norm scales of both rows: a warp finds those of its sixteen, four at a time, all loads at once, since
// they queue behind what the ring asks for.
template <class Shape>
__device__ __forceinline__ float2 ScalesOfSums(const NormedRows& norm, const WholeTile<Shape>& tile,
                                               const WholeLane<Shape>& lane) {
  float scales[4];
  GroupedRowScales(norm, tile.column0 + lane.warp_column + lane.Lane() / 8, tile.column0 + tile.columns,
                   scales);
  const int from = lane.Lane() / 4 % 4 * 8;
  const bool later = lane.Lane() >= 16;
  float2 result = {};
#pragma unroll
  for (int four = 0; four < 4; ++four) {
    const float given = __shfl_sync(~0u, scales[four], from);
    if (later == (four % 2 != 0)) (four < 2 ? result.x : result.y) = given;
  }
  return result;
}

template <int kSums>
__device__ __forceinline__ void ScaleSums(float (&sums)[kSums], float2 scales) {
#pragma unroll
  for (int i = 0; i < kSums; ++i) sums[i] = __fmul_rn(sums[i], i % 4 < 2 ? scales.x : scales.y);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_SUMS_CUH_
