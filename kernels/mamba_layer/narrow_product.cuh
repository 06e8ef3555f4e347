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
  static constexpr int kStageK = 64;
  static constexpr int kStageBytes = kRows * kStageK * 2;
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
  __shared__ std::uint64_t x_full[kMaxSegments];
  __shared__ float row_scale[kCore];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int segment = warp % args.segments;
  const int row16 = blockIdx.x * (Shape::kWarps / args.segments) + warp / args.segments;
  const int begin = segment * args.segment_k;
  const int end = min(begin + args.segment_k, args.k_pad);
  const int steps = max(end - begin + Shape::kStageK - 1, 0) / Shape::kStageK;
  unsigned char* const x_shared = shared;
  unsigned char* const ring = shared + Shape::ActivationBytes(args.k_pad, kHeight) +
                              warp * args.stages * Shape::kStageBytes;
  float* const sums = reinterpret_cast<float*>(shared + Shape::ActivationBytes(args.k_pad, kHeight) +
                                               Shape::kWarps * args.stages * Shape::kStageBytes);

  // Lane 0: step `step` of this warp's weights. A step past a multiple of kStageK is shorter.
  const std::uint16_t* const weights = args.weights + static_cast<std::int64_t>(row16) * Shape::kRows * args.k_pad;
  const auto fetch = [&](int step, int stage) {
    const int k = begin + step * Shape::kStageK;
    const unsigned bytes = min(Shape::kStageK, end - k) * kCore * 2;
    std::uint64_t* const full = &weights_full[warp][stage];
    hopper::BarrierExpect(full, 2 * bytes);
    for (int i = 0; i < 2; ++i) {
      hopper::BulkCopy(ring + stage * Shape::kStageBytes + i * (Shape::kStageBytes / 2),
                       weights + static_cast<std::int64_t>(i) * kCore * args.k_pad + k * kCore, bytes, full);
    }
  };

  hopper::LaunchDependents();
  if (lane == 0) {
    for (int i = 0; i < args.stages; ++i) hopper::BarrierInit(&weights_full[warp][i], 1);
    if (threadIdx.x == 0) {
      for (int i = 0; i < args.segments; ++i) hopper::BarrierInit(&x_full[i], 1);
    }
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
  typename Output::Operands operands;
  if (inside) output.LoadStable(m, column, operands);
  __syncthreads();  // x_full is ready
  hopper::WaitForPrevious();

  if (threadIdx.x < args.segments) {
    const int from = threadIdx.x * args.segment_k;
    const int length = min(args.segment_k, args.k_pad - from);
    if (length > 0) {
      const unsigned bytes = length * kHeight * 2;
      hopper::BarrierExpect(&x_full[threadIdx.x], bytes);
      hopper::BulkCopy(x_shared + from * kHeight * 2, args.x + from * kHeight, bytes, &x_full[threadIdx.x]);
    }
  }
  if (inside) output.LoadFresh(m, column, operands);
  if (Output::kScaled && warp < kHeight) {
    const float scale = RowScale(output.norm, warp);
    if (lane == 0) row_scale[warp] = scale;
  }

  float sum[4] = {};
  if (steps > 0) hopper::BarrierWait(&x_full[segment], 0);
  const std::uint32_t a_lane = hopper::SharedAddress(ring) + (lane / 8 % 2) * (Shape::kStageBytes / 2) +
                               (lane / 16) * 128 + lane % 8 * 16;
  const std::uint32_t b_lane =
      hopper::SharedAddress(x_shared) + (begin / kCore + lane / 8) * kHeight * 16 + lane % 8 % kHeight * 16;
  int stage = 0;
  unsigned parity = 0;
  for (int step = 0; step < steps; ++step) {
    hopper::BarrierWait(&weights_full[warp][stage], parity);
    const int length = min(Shape::kStageK, end - begin - step * Shape::kStageK);
    const std::uint32_t a_stage = a_lane + stage * Shape::kStageBytes;
    const std::uint32_t b_stage = b_lane + step * (Shape::kStageK / kCore) * kHeight * 16;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      if (half * 32 >= length) break;
      std::uint32_t a0[4], a1[4], b[4];
      hopper::LoadMatrices(a_stage + half * 512, a0);
      hopper::LoadMatrices(a_stage + half * 512 + 256, a1);
      hopper::LoadMatrices(b_stage + half * 4 * kHeight * 16, b);
      hopper::Mma(sum, a0, b[0], b[1]);
      hopper::Mma(sum, a1, b[2], b[3]);
    }
    __syncwarp();
    if (lane == 0 && step + args.stages < steps) fetch(step + args.stages, stage);
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
  output.Apply(m, column, inside, total, Output::kScaled ? row_scale[column] : 1.0f, operands);
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_NARROW_PRODUCT_CUH_
