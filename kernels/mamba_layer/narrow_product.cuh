// y = x W^T for up to 8 rows of x: bound by reading W. A warp owns 16 rows of W and one segment of K, streams
// them through its own ring in shared memory, and gives the segment's sums to the block, which adds them in
// ascending order. The first ring-full is under way before the previous kernel has ended.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"

namespace mambad::kernels {

struct NarrowShape {
  static constexpr int kWarps = 8;
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRows = 16;     // of W, a warp
  static constexpr int kStageBytes = kRows / kCore * kRowBlockBytes;  // of one chunk of k
  static constexpr int kMaxStages = 8;
  static constexpr int kSumStride = kRows + 4;  // floats between columns of a warp's sums
  static constexpr int kSumFloats = kCore * kSumStride;

  static constexpr int BlockRows(int segments) { return kRows * kWarps / segments; }
  static constexpr MAMBAD_LANE int ActivationBytes(int k_pad, int height) { return k_pad * height * 2; }
  static constexpr int SharedBytes(int k_pad, int height, int stages) {
    return ActivationBytes(k_pad, height) + kWarps * stages * kStageBytes + kWarps * kSumFloats * 4;
  }
};

template <int kHeight, class Output>
__global__ void __launch_bounds__(NarrowShape::kThreads) NarrowProduct(const ProductArgs args, const Output output) {
#if __CUDA_ARCH__ >= 900
  using Shape = NarrowShape;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ std::uint64_t weights_full[Shape::kWarps][Shape::kMaxStages];
  __shared__ float row_scale[kCore];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int segment = warp % args.segments;
  const int row16 = blockIdx.x * (Shape::kWarps / args.segments) + warp / args.segments;
  const int steps = args.segment_k / kChunkK;
  unsigned char* const x_shared = shared;
  unsigned char* const ring = shared + Shape::ActivationBytes(args.k_pad, kHeight) +
                              warp * args.stages * Shape::kStageBytes;
  float* const sums = reinterpret_cast<float*>(shared + Shape::ActivationBytes(args.k_pad, kHeight) +
                                               Shape::kWarps * args.stages * Shape::kStageBytes);

  // Lane 0: chunk `step` of this warp's weights.
  const std::uint16_t* const weights = args.weights + WeightIndex(row16 * Shape::kRows, segment * args.segment_k, args.k_pad);
  const auto fetch = [&](int step, int stage) {
    hopper::BarrierExpect(&weights_full[warp][stage], Shape::kStageBytes);
    hopper::BulkCopy(ring + stage * Shape::kStageBytes, weights + static_cast<std::int64_t>(step) * kTileRows * kChunkK,
                     Shape::kStageBytes, &weights_full[warp][stage]);
  };

  hopper::LaunchDependents();
  if (lane == 0) {
    for (int i = 0; i < args.stages; ++i) hopper::BarrierInit(&weights_full[warp][i], 1);
    hopper::BarrierInitFence();
    for (int i = 0; i < min(args.stages, steps); ++i) fetch(i, i);
  }

  // The quad that this thread completes in the end: 16 rows of W by 8 columns a warp.
  const int quads = kHeight * (Shape::kWarps / args.segments) * (Shape::kRows / kQuad);
  const int column = threadIdx.x / 4 % kHeight;
  const int tile = threadIdx.x / 4 / kHeight;
  const int m = (blockIdx.x * (Shape::kWarps / args.segments) + tile) * Shape::kRows + threadIdx.x % 4 * kQuad;
  const bool owner = threadIdx.x < quads;
  const bool inside = owner && m < args.rows && column < args.columns;
  typename Output::Constants constants = {};
  typename Output::Operands operands;
  if (inside) {
    output.LoadSlot(m, column, operands);
    output.LoadConstants(m, constants);
  }
  hopper::WaitForPrevious();

  for (int i = threadIdx.x; i < args.k_pad * kHeight / 8; i += Shape::kThreads)
    hopper::AsyncCopy16(x_shared + i * 16, args.x + i * 8);
  if (inside) output.LoadFresh(m, column, operands);
  if (Output::kScaled && warp < kHeight) {
    const float scale = RowScale(output.norm, warp);
    if (lane == 0) row_scale[warp] = scale;
  }

  hopper::AsyncCopyWait();
  __syncthreads();

  float sum[4] = {};
  const std::uint32_t a_lane =
      hopper::SharedAddress(ring) + lane / 8 % 2 * kRowBlockBytes + lane / 16 * 128 + lane % 8 * 16;
  const std::uint32_t b_lane = hopper::SharedAddress(x_shared) +
                               (segment * args.segment_k / kCore + lane / 8) * kHeight * 16 + lane % 8 % kHeight * 16;
  int stage = 0;
  unsigned parity = 0;
  for (int step = 0; step < steps; ++step) {
    hopper::BarrierWait(&weights_full[warp][stage], parity);
    const std::uint32_t a_stage = a_lane + stage * Shape::kStageBytes;
    const std::uint32_t b_stage = b_lane + step * (kChunkK / kCore) * kHeight * 16;
    std::uint32_t a[4][4], b[2][4];
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::LoadMatrices(a_stage + i * 256, a[i]);
#pragma unroll
    for (int i = 0; i < 2; ++i) hopper::LoadMatrices(b_stage + i * 4 * kHeight * 16, b[i]);
    __syncwarp();
    if (lane == 0 && step + args.stages < steps) fetch(step + args.stages, stage);
#pragma unroll
    for (int i = 0; i < 4; ++i) hopper::Mma(sum, a[i], b[i / 2][i % 2 * 2], b[i / 2][i % 2 * 2 + 1]);
    if (++stage == args.stages) {
      stage = 0;
      parity ^= 1;
    }
  }

  // Column-major in shared memory: sums[warp][column][row].
  float* const own = sums + warp * Shape::kSumFloats + lane % 4 * 2 * Shape::kSumStride + lane / 4;
  own[0] = sum[0];
  own[Shape::kSumStride] = sum[1];
  own[8] = sum[2];
  own[Shape::kSumStride + 8] = sum[3];
  __syncthreads();
  if (warp * 32 >= quads) return;
  float4 total = {};
  if (owner) {
    const float* from = sums + tile * args.segments * Shape::kSumFloats + column * Shape::kSumStride +
                        threadIdx.x % 4 * kQuad;
    total = *reinterpret_cast<const float4*>(from);
    for (int s = 1; s < args.segments; ++s)
      total = AddEach(total, *reinterpret_cast<const float4*>(from + s * Shape::kSumFloats));
  }
  output.Apply(m, column, inside, total, Output::kScaled ? row_scale[column] : 1.0f, constants, operands);
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_
