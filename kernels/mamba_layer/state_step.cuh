// dt_proj, the selective state space step and the gate. A block takes `kWarps` * 16 channels of up to 8 rows:
// first delta for all of them (a matrix product over the rank), then each warp streams the states of 32
// channels, a row at a time. States that a warp meets first are under way before the previous kernel has
// ended: nothing else in a step touches them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/math/ssm.h"

namespace mambad::kernels {

struct StateStepArgs {
  const std::uint16_t* dt_proj;  // packed (D, R)
  const float* dt_bias;          // (D)
  const float* decay_log2;       // (N, D)
  const float* skip;             // (D)
  const float* dt_bc;            // (rows, R + 2 N)
  const std::uint16_t* x;        // (rows, D)
  const std::uint16_t* gate;     // (rows, D)
  std::uint16_t* y;              // (rows, D)
  StepLayout layout;             // of x, gate and y
  SlotView state;                // (N, D) per slot
  const std::int32_t* slot_index;
  std::int32_t channels;   // D
  std::int32_t rank;       // R
  std::int32_t rank_pad;   // of dt_proj
  float norm_eps;          // of the weightless norms on dt, B and C; negative: none
};

template <int kN, int kHeight, int kWarps>
struct StateStepShape {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kChannels = kWarps * 16;
  static constexpr int kGroups = kWarps / 2;  // of 32 channels
  static constexpr int kRowsPerWarp = (kHeight + 1) / 2;
  static constexpr int kAhead = kRowsPerWarp * kN <= 64 ? kRowsPerWarp : (64 / kN > 0 ? 64 / kN : 1);
  static constexpr int kDeltaStride = kChannels + 4;

  static constexpr int SharedBytes(int rank_pad) {
    return kChannels * rank_pad * 2 + kCore * rank_pad * 2 + kHeight * 2 * kN * 4 + kCore * kDeltaStride * 4;
  }
};

// The scale of a weightless norm over `width` floats, in every lane.
__device__ __forceinline__ float PlainScale(const float* values, int width, float eps) {
  float sum = 0.0f;
  for (int i = threadIdx.x % 32; i < width; i += 32) sum = __fadd_rn(sum, __fmul_rn(__ldcg(values + i), __ldcg(values + i)));
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, mask));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, static_cast<float>(width)), eps)));
}

// v[i] without a detour through local memory.
__device__ __forceinline__ float Pick(float4 v, int i) {
  return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
}

template <int kN, int kHeight, int kWarps>
__global__ void __launch_bounds__(kWarps * 32) StepStates(const StateStepArgs args) {
#if __CUDA_ARCH__ >= 900
  using Shape = StateStepShape<kN, kHeight, kWarps>;
  constexpr int kPerLane = kN / 4;  // state indices
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ std::uint64_t weights_full;
  __shared__ float scales[3][kCore];
  unsigned char* const weights = shared;
  std::uint16_t* const dt = reinterpret_cast<std::uint16_t*>(weights + Shape::kChannels * args.rank_pad * 2);
  float* const bc = reinterpret_cast<float*>(dt + kCore * args.rank_pad);       // (kHeight, 2 N)
  float* const delta = bc + kHeight * 2 * kN;                                   // (8, kDeltaStride)
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int channel0 = blockIdx.x * Shape::kChannels;
  const int row0 = blockIdx.y * kHeight;

  hopper::LaunchDependents();
  if (threadIdx.x == 0) {
    hopper::BarrierInit(&weights_full, 1);
    hopper::BarrierInitFence();
    const unsigned bytes = Shape::kChannels * args.rank_pad * 2;
    hopper::BarrierExpect(&weights_full, bytes);
    for (int k = 0; k < args.rank_pad; k += kChunkK) {
      hopper::BulkCopy(weights + k * Shape::kChannels * 2, args.dt_proj + WeightIndex(channel0, k, args.rank_pad),
                       Shape::kChannels * kChunkK * 2, &weights_full);
    }
  }

  // This lane: channels c .. c+3, state indices n = lane % 4 + 4 i; rows half, half + 2, ...
  const int c = channel0 + warp % Shape::kGroups * 32 + lane / 4 * kQuad;
  const int n0 = lane % 4;
  const int half = warp / Shape::kGroups;
  const bool exists = c < args.channels;
  float4 decay[kPerLane];
  float4 state[Shape::kAhead][kPerLane];
  float* at[Shape::kAhead];
  const auto load_states = [&](int first) {
#pragma unroll
    for (int i = 0; i < Shape::kAhead; ++i) {
      const int row = half + 2 * (first + i);
      const int slot = row < kHeight && exists ? args.slot_index[row0 + row] : kNoSlot;
      at[i] = slot == kNoSlot ? nullptr : SlotData(args.state, slot) + c + static_cast<std::int64_t>(n0) * args.channels;
      if (at[i] == nullptr) continue;
#pragma unroll
      for (int j = 0; j < kPerLane; ++j)
        state[i][j] = __ldcs(reinterpret_cast<const float4*>(at[i] + static_cast<std::int64_t>(4 * j) * args.channels));
    }
  };
  load_states(0);
  if (exists) {
#pragma unroll
    for (int j = 0; j < kPerLane; ++j)
      decay[j] = *reinterpret_cast<const float4*>(args.decay_log2 + static_cast<std::int64_t>(n0 + 4 * j) * args.channels + c);
  }
  // Where the sum over n ends up: channel c + own of this lane.
  const int own = (lane & 1) * 2 + (lane >> 1 & 1);
  const float skip = exists ? args.skip[c + own] : 0.0f;
  float dt_bias[2];  // of the channels whose delta this lane completes
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int channel = channel0 + warp * 16 + lane / 4 + i * 8;
    dt_bias[i] = channel < args.channels ? args.dt_bias[channel] : 0.0f;
  }
  hopper::WaitForPrevious();

  const int width = args.rank + 2 * kN;
  constexpr StepLayout dt_layout = StepLayout::Of(kCore);
  for (int row = warp; row < kCore; row += kWarps) {
    const float* from = args.dt_bc + static_cast<std::int64_t>(row0 + row) * width;
    for (int k = lane; k < args.rank_pad; k += 32) {
      const float value = row < kHeight && k < args.rank ? __ldcg(from + k) : 0.0f;
      dt[dt_layout.Index(row, k)] = __bfloat16_as_ushort(__float2bfloat16_rn(value));
    }
    if (row < kHeight) {
      for (int k = lane; k < 2 * kN; k += 32) bc[row * 2 * kN + k] = __ldcg(from + args.rank + k);
      if (args.norm_eps >= 0.0f) {
        const float scale_dt = PlainScale(from, args.rank, args.norm_eps);
        const float scale_b = PlainScale(from + args.rank, kN, args.norm_eps);
        const float scale_c = PlainScale(from + args.rank + kN, kN, args.norm_eps);
        if (lane == 0) scales[0][row] = scale_dt;
        __syncwarp();
        for (int k = lane; k < 2 * kN; k += 32)
          bc[row * 2 * kN + k] = __fmul_rn(bc[row * 2 * kN + k], k < kN ? scale_b : scale_c);
      }
    }
  }
  uint2 x_bits[Shape::kRowsPerWarp];
  std::uint16_t gate_bits[Shape::kRowsPerWarp];
#pragma unroll
  for (int i = 0; i < Shape::kRowsPerWarp; ++i) {
    const int row = half + 2 * i;
    if (row >= kHeight || !exists) continue;
    x_bits[i] = LoadFreshBf16(args.x + args.layout.Index(row0 + row, c));
    gate_bits[i] = __ldcg(args.gate + args.layout.Index(row0 + row, c + own));
  }
  __syncthreads();

  {  // delta of 16 channels by 8 rows
    hopper::BarrierWait(&weights_full, 0);
    float sum[4] = {};
    const std::uint32_t a_lane = hopper::SharedAddress(weights) + (2 * warp + lane / 8 % 2) * kRowBlockBytes +
                                 lane / 16 * 128 + lane % 8 * 16;
    const std::uint32_t b_lane = hopper::SharedAddress(dt) + lane / 8 * 128 + lane % 8 * 16;
    for (int k = 0; k < args.rank; k += 32) {
      std::uint32_t a0[4], a1[4], b[4];
      const std::uint32_t a = a_lane + k / kChunkK * Shape::kChannels * kChunkK * 2 + k % kChunkK * 16;
      hopper::LoadMatrices(a, a0);
      hopper::LoadMatrices(a + 256, a1);
      hopper::LoadMatrices(b_lane + k * 16, b);
      hopper::Mma(sum, a0, b[0], b[1]);
      hopper::Mma(sum, a1, b[2], b[3]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = warp * 16 + lane / 4 + i / 2 * 8;
      const int row = lane % 4 * 2 + i % 2;
      if (row >= kHeight || channel0 + channel >= args.channels) continue;
      float raw = sum[i];
      if (args.norm_eps >= 0.0f) raw = __fmul_rn(raw, scales[0][row]);
      delta[row * Shape::kDeltaStride + channel] = Delta(F32x1{raw}, F32x1{dt_bias[i / 2]}).v;
    }
  }
  __syncthreads();

#pragma unroll
  for (int first = 0; first < Shape::kRowsPerWarp; first += Shape::kAhead) {
    if (first > 0) load_states(first);
#pragma unroll
    for (int i = 0; i < Shape::kAhead; ++i) {
      const int row = half + 2 * (first + i);
      if (row >= kHeight || first + i >= Shape::kRowsPerWarp) continue;
      const bool live = at[i] != nullptr;
      const float4 d = *reinterpret_cast<const float4*>(delta + row * Shape::kDeltaStride + (c - channel0));
      const float4 x = WidenBf16(x_bits[first + i]);
      float4 sum = {};
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) {
        const float b = bc[row * 2 * kN + n0 + 4 * j];
        const float cc = bc[row * 2 * kN + kN + n0 + 4 * j];
        float4& h = state[i][j];
#pragma unroll
        for (int q = 0; q < kQuad; ++q) {
          const F32x1 dq{At(d, q)};
          At(h, q) = StateStep(F32x1{At(h, q)}, dq, dq * F32x1{At(x, q)}, F32x1{At(decay[j], q)}, F32x1{b}).v;
          At(sum, q) = MulAdd(F32x1{At(h, q)}, F32x1{cc}, F32x1{At(sum, q)}).v;
        }
        if (live) __stcs(reinterpret_cast<float4*>(at[i] + static_cast<std::int64_t>(4 * j) * args.channels), h);
      }
      // The four lanes of a quad hold the sums of n mod 4: (s0 + s1) + (s2 + s3), each lane one channel.
      const bool high = lane & 1;
      float p0 = __shfl_xor_sync(~0u, high ? sum.x : sum.z, 1);
      float p1 = __shfl_xor_sync(~0u, high ? sum.y : sum.w, 1);
      p0 = __fadd_rn(high ? sum.z : sum.x, p0);
      p1 = __fadd_rn(high ? sum.w : sum.y, p1);
      const bool second = lane & 2;
      const float other = __shfl_xor_sync(~0u, second ? p0 : p1, 2);
      const float total = __fadd_rn(second ? p1 : p0, other);
      if (!live) continue;
      const float y = __fmul_rn(__fmaf_rn(skip, Pick(x, own), total), __uint_as_float(std::uint32_t{gate_bits[first + i]} << 16));
      args.y[args.layout.Index(row0 + row, c + own)] = __bfloat16_as_ushort(__float2bfloat16_rn(y));
    }
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_
