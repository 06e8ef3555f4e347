// dt_proj, the state step and the gate of one row, for the shortest chain from B and C to y: what
// state_step.cuh does for many. A warp takes 16 channels alone: lane l holds channels l / 4 and l / 4 + 8 and
// every fourth state index, which is also where mma.sync leaves their delta. Same bits as StepStates.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STATE_ROW_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STATE_ROW_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/mamba_layer/state_step.cuh"
#include "kernels/mamba_layer/x_proj_fold.cuh"

namespace mambad::kernels {

template <int kWarps>
struct StateRowShape {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kChannels = kWarps * 16;
  static constexpr int kMostWidth = 576;  // R + 2 N
  static constexpr int SharedBytes(int rank_pad) { return kChannels * rank_pad * 2; }
};

__device__ __forceinline__ float WidenedBf16(std::uint16_t bits) {
  return __uint_as_float(static_cast<std::uint32_t>(bits) << 16);
}

// One channel's step by the four lanes that share its states; y, with the gate, in all of them.
template <int kPerLane>
__device__ __forceinline__ float StepChannel(float delta, float x, float gate, float skip,
                                             const float (&decay)[kPerLane], const float (&h)[kPerLane],
                                             const float (&b)[kPerLane], const float (&c)[kPerLane],
                                             float (&next_h)[kPerLane]) {
  const float dx = __fmul_rn(delta, x);
  float y = 0.0f;
#pragma unroll
  for (int j = 0; j < kPerLane; ++j) {
    next_h[j] = __fmaf_rn(Exp2Approx(__fmul_rn(delta, decay[j])), h[j], __fmul_rn(dx, b[j]));
    y = __fmaf_rn(next_h[j], c[j], y);
  }
  y = __fadd_rn(y, __shfl_xor_sync(~0u, y, 1));
  y = __fadd_rn(y, __shfl_xor_sync(~0u, y, 2));
  return __fmul_rn(__fmaf_rn(skip, x, y), gate);
}

// Grid (blocks of kWarps * 16 channels, rows). kFolded: dt, B and C are still in segments (8 warps).
template <int kN, int kWarps, bool kFolded>
__global__ void __launch_bounds__(kWarps * 32, 1) StepRow(const StateStepArgs args, const FoldedSums folded) {
#if __CUDA_ARCH__ >= 900
  constexpr int kPerLane = kN / 4;
  constexpr int kAhead = kChunkK / 16;  // k16 steps of dt_proj that wait in registers
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ float raw[StateRowShape<kWarps>::kMostWidth];  // dt, B and C
  __shared__ std::uint16_t dt[StateRowShape<kWarps>::kMostWidth];
  __shared__ FoldedSums::Groups groups;
  __shared__ float scales[3];
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int row = blockIdx.y;
  const int width = args.rank + 2 * kN;
  const int c0 = (blockIdx.x * kWarps + warp) * 16;
  const int c = c0 + lane / 4;
  const int n0 = lane % 4;
  const bool exists = c0 < args.channels;
  AllowNextKernel();

  unsigned char* const weights = shared + warp * 16 * args.rank_pad * 2;  // this warp's, chunk by chunk
  for (int k = 0; k < args.rank_pad; k += kChunkK) {
#pragma unroll
    for (int i = 0; i < 4; ++i)
      hopper::AsyncCopy16(weights + k * 16 * 2 + i * 512 + lane * 16,
                          args.dt_proj + WeightIndex(exists ? c0 : 0, k, args.rank_pad) + i * 256 + lane * 8);
  }
  const int slot = args.slot_index[row];
  const bool active = exists && slot != kNoSlot;
  float* const at = SlotData(args.state, active ? slot : 0) + n0 * args.channels + c;
  const float* const decay_at = args.decay_log2 + n0 * args.channels + c;
  float h[2][kPerLane] = {}, decay[2][kPerLane] = {}, skip[2] = {}, bias[2] = {};
  if (exists) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        if (active) h[i][j] = __ldcs(at + 4 * j * args.channels + 8 * i);
        decay[i][j] = decay_at[4 * j * args.channels + 8 * i];
      }
      skip[i] = args.skip[c + 8 * i];
      bias[i] = args.dt_bias[c + 8 * i];
    }
  }
  const std::int64_t element =
      args.layout.Index(row, c);  // of x, gate and y; channel c + 8 is a core matrix on
  const int next = args.layout.height * kCore;
  const float* const sums = kFolded ? folded.At(row, warp * kFoldGroup) + lane * kQuad : nullptr;
  const bool sums_segments = kFolded && warp < folded.segments / kFoldGroup && lane * kQuad < width;
  hopper::AsyncCopyWaitAll();
  __syncwarp();
  const std::uint32_t a_lane =
      SharedAddress(weights) + lane / 8 % 2 * kRowBlockBytes + lane / 16 * 128 + lane % 8 * 16;
  std::uint32_t a[kAhead][4];
#pragma unroll
  for (int i = 0; i < kAhead; ++i) hopper::LoadMatrices(a_lane + i * 256, a[i]);

    // Once to bring the instructions close, which costs nothing while the previous kernel runs; then for
    // real.
#pragma unroll 1
  for (int pass = 0; pass < 2; ++pass) {
    const bool real = pass == 1;
    const auto keep = [&](int i, float value) {
      raw[i] = value;
      dt[i] = i < args.rank ? __bfloat16_as_ushort(__float2bfloat16_rn(value)) : 0;
    };
    if (real) WaitForPreviousKernel();
    std::uint16_t x_bits[2] = {}, gate_bits[2] = {};
    if (real && exists) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
        x_bits[i] = __ldcg(args.x + element + i * next);
        gate_bits[i] = __ldcg(args.gate + element + i * next);
      }
    }
    if constexpr (kFolded) {
      if (sums_segments) groups.Keep(warp, lane, sums);
      __syncthreads();
      if (threadIdx.x < width) keep(threadIdx.x, groups.Total(threadIdx.x, folded));
    } else {
      for (int i = threadIdx.x; i < width; i += kWarps * 32)
        keep(i, __ldcg(args.dt_bc + static_cast<std::int64_t>(row) * width + i));
    }
    __syncthreads();
    if (args.norm_eps >= 0.0f) {
      if (warp < 3) {
        const int begin = warp == 0 ? 0 : args.rank + (warp - 1) * kN;
        const float scale = PlainScale(raw + begin, warp == 0 ? args.rank : kN, args.norm_eps);
        if (lane == 0) scales[warp] = scale;
      }
      __syncthreads();
    }

    // delta of the warp's channels: every column of B is this row.
    const float x[2] = {WidenedBf16(x_bits[0]), WidenedBf16(x_bits[1])};
    const float gate[2] = {WidenedBf16(gate_bits[0]), WidenedBf16(gate_bits[1])};
    float sum[4] = {};
    const auto multiply = [&](int k, const std::uint32_t(&weights)[4]) {
      const std::uint16_t* const from = dt + k + n0 * 2;
      hopper::Mma(sum, weights, *reinterpret_cast<const std::uint32_t*>(from),
                  *reinterpret_cast<const std::uint32_t*>(from + 8));
    };
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      if (i * 16 < args.rank) multiply(i * 16, a[i]);
    }
#pragma unroll 1
    for (int k = kChunkK; k < args.rank; k += 16) {
      std::uint32_t more[4];
      hopper::LoadMatrices(a_lane + k / kChunkK * (16 * kChunkK * 2) + k % kChunkK * 16, more);
      multiply(k, more);
    }
    float b[kPerLane], cs[kPerLane];
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) {
      b[j] = raw[args.rank + n0 + 4 * j];
      cs[j] = raw[args.rank + kN + n0 + 4 * j];
      if (args.norm_eps >= 0.0f) b[j] = __fmul_rn(b[j], scales[1]), cs[j] = __fmul_rn(cs[j], scales[2]);
    }
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      float product = sum[2 * i];
      if (args.norm_eps >= 0.0f) product = __fmul_rn(product, scales[0]);
      float next_h[kPerLane];
      const float y = StepChannel(SoftplusApprox(__fadd_rn(product, bias[i])), x[i], gate[i], skip[i],
                                  decay[i], h[i], b, cs, next_h);
      if (!active || !real) continue;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) __stcs(at + 4 * j * args.channels + 8 * i, next_h[j]);
      if (n0 == 0) args.y[element + i * next] = __bfloat16_as_ushort(__float2bfloat16_rn(y));
    }
    if (!real) __syncthreads();  // the rehearsal has read what the run writes
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STATE_ROW_CUH_
