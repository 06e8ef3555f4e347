// dt_proj, the selective state space step and the gate. A block takes `kWarps` * 16 channels of kRows rows:
// first delta for all of them (a matrix product over the rank), then each warp streams the states of 32
// channels, a row at a time, the next rows' on their way. The first states are under way before the previous
// kernel has ended: nothing else in a step touches them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/state_in_slot.cuh"
#include "kernels/math/exp_approx.cuh"

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
  SlotView state;                // (N, D) per slot, fp32 or bf16
  const std::int32_t* slot_index;
  std::int32_t rows;      // B
  std::int32_t channels;  // D
  std::int32_t rank;      // R
  std::int32_t rank_pad;  // of dt_proj
  float norm_eps;         // of the weightless norms on dt, B and C; negative: none
  std::int32_t ahead;     // a block brings to L2 the states of the one so many further on; 0: it does not
};

// kLanes lanes share a quad of channels: 4 for few rows (the shortest chain), 1 for many (wider loads,
// nothing to exchange).
template <int kN, int kRowsOfBlock, int kWarps, int kLanes>
struct StateStepShape {
  static constexpr int kThreads = kWarps * 32;
  static constexpr int kRows = kRowsOfBlock;
  static constexpr int kChannels = kWarps * 16;
  static constexpr int kWarpChannels = 32 / kLanes * kQuad;
  static constexpr int kGroups = kChannels / kWarpChannels;
  static constexpr int kRowWays = kWarps / kGroups;  // warps that share a group's rows
  static constexpr int kRowsPerWarp = (kRows + kRowWays - 1) / kRowWays;
  static constexpr int kPerLane = kN / kLanes;                                             // state indices
  static constexpr int kMostAhead = kLanes == 2 ? 1 : kPerLane <= 16 ? 16 / kPerLane : 1;  // rows
  static constexpr int kAhead = kRowsPerWarp < kMostAhead ? kRowsPerWarp : kMostAhead;
  static constexpr int kRowTiles = (kRows + kCore - 1) / kCore;
  static constexpr int kDeltaStride = kChannels + 4;
  static constexpr bool kDecayShared = kLanes < 4 && kN == 16;                   // else in registers
  static constexpr bool kHasAhead = kLanes == 1 && kRows == kWarps && kN <= 32;  // a row a warp, an n a lane

  // Of rows of dt, B and C in shared memory, floats: pairs of four rows and four lanes lie in different
  // banks, and what is read past the rank, up to the next 32, lies in the row.
  static constexpr __host__ __device__ int RawStride(int width) { return (width + 31) / 32 * 32 + 8; }

  static constexpr int SharedBytes(int rank, int rank_pad) {
    return kChannels * rank_pad * 2 + kRows * (kDeltaStride + RawStride(rank + 2 * kN)) * 4 +
           (kDecayShared ? kN * kChannels * 4 : 0);
  }
};

// The scale of a weightless norm over `width` floats of shared memory, in every lane.
__device__ __forceinline__ float PlainScale(const float* values, int width, float eps) {
  float sum = 0.0f;
  for (int i = threadIdx.x % 32; i < width; i += 32) sum = __fadd_rn(sum, __fmul_rn(values[i], values[i]));
#pragma unroll
  for (int mask = 16; mask > 0; mask /= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, mask));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum, static_cast<float>(width)), eps)));
}

// Rows from L2 to shared memory, a warp each, 16 bytes at a time where they may; AsyncCopyWaitAll, then a
// barrier.
template <int kWarps>
__device__ __forceinline__ void CopyRows(const float* from, int rows, int width, float* to, int to_stride) {
  const int lane = threadIdx.x % 32;
  const bool whole = reinterpret_cast<std::uintptr_t>(from) % 16 == 0 && width % kQuad == 0;
  for (int row = threadIdx.x / 32; row < rows; row += kWarps) {
    const float* const source = from + row * width;
    float* const copy = to + row * to_stride;
    if (whole) {
      for (int i = lane * kQuad; i < width; i += 32 * kQuad) hopper::AsyncCopy16(copy + i, source + i);
    } else {
      for (int i = lane; i < width; i += 32) copy[i] = __ldcg(source + i);
    }
  }
}

// A warp's part of the states of the block `args.ahead` further on.
template <class Shape, int kN, bool kNarrow>
__device__ __forceinline__ void BringStatesAhead(const StateStepArgs& args) {
  using Element = typename StateInSlot<kNarrow>::Element;
  const int block = blockIdx.y * gridDim.x + blockIdx.x + args.ahead;
  const int row = block / gridDim.x * Shape::kRows + threadIdx.x / 32, n = threadIdx.x % 32;
  const int channel0 = block % gridDim.x * Shape::kChannels;
  if (args.ahead == 0 || row >= args.rows || n >= kN) return;
  const int slot = args.slot_index[row];
  if (slot == kNoSlot) return;
  BulkPrefetch(reinterpret_cast<Element*>(SlotData(args.state, slot)) + channel0 +
                   static_cast<std::int64_t>(n) * args.channels,
               min(Shape::kChannels, args.channels - channel0) * static_cast<int>(sizeof(Element)));
}

// The sum over n of a quad of channels from its four partial sums, (s0 + s1) + (s2 + s3). One lane has them
// all, or two or four lanes share them.
__device__ __forceinline__ float4 SumOverState(const float4 (&s)[4]) {
  return AddEach(AddEach(s[0], s[1]), AddEach(s[2], s[3]));
}
__device__ __forceinline__ float4 SumOverState(const float4 (&s)[2]) {
  float4 sum;
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
    const float even = __fadd_rn(At(s[0], q), __shfl_xor_sync(~0u, At(s[0], q), 1));
    At(sum, q) = __fadd_rn(even, __fadd_rn(At(s[1], q), __shfl_xor_sync(~0u, At(s[1], q), 1)));
  }
  return sum;
}
__device__ __forceinline__ float4 SumOverState(const float4 (&s)[1]) {
  float4 sum = s[0];
#pragma unroll
  for (int mask = 1; mask < 4; mask *= 2) {
#pragma unroll
    for (int q = 0; q < kQuad; ++q)
      At(sum, q) = __fadd_rn(At(sum, q), __shfl_xor_sync(~0u, At(sum, q), mask));
  }
  return sum;
}

// One row of a warp: what a lane holds of it.
template <int kPerLane, bool kNarrow>
struct RowStates {
  typename StateInSlot<kNarrow>::Element* at;  // null: nothing to do
  typename StateInSlot<kNarrow>::Quad h[kPerLane];
  uint2 x;
  uint2 gate;
};

template <int kN, int kRows, int kWarps, int kLanes, bool kNarrow>
__global__ void __launch_bounds__(kWarps * 32, kWarps < 8    ? 1
                                               : kLanes == 2 ? 3
                                                             : 2) StepStates(const StateStepArgs args) {
#if __CUDA_ARCH__ >= 900
  using Shape = StateStepShape<kN, kRows, kWarps, kLanes>;
  using InSlot = StateInSlot<kNarrow>;
  constexpr int kPerLane = Shape::kPerLane;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ std::uint64_t weights_full;
  __shared__ float scales[3][kRows];
  __shared__ RoundingKey keys[kNarrow ? kRows : 1];
  unsigned char* const weights = shared;
  float* const delta =
      reinterpret_cast<float*>(weights + Shape::kChannels * args.rank_pad * 2);  // (rows, stride)
  float* const shared_decay = delta + kRows * Shape::kDeltaStride;               // (N, kChannels), if there
  float* const raw =
      shared_decay + (Shape::kDecayShared ? kN * Shape::kChannels : 0);  // (kRows, stride): dt, B and C
  const int width = args.rank + 2 * kN, stride = Shape::RawStride(width);
  const int warp = threadIdx.x / 32;
  const int lane = threadIdx.x % 32;
  const int channel0 = blockIdx.x * Shape::kChannels;
  const int row0 = blockIdx.y * kRows;
  const int row_count = min(kRows, args.rows - row0);

  AllowNextKernel();
  if (threadIdx.x == 0) {
    InitBarrier(&weights_full, 1);
    hopper::BarrierInitFence();
    ArriveExpectBytes(&weights_full, Shape::kChannels * args.rank_pad * 2);
    for (int k = 0; k < args.rank_pad; k += kChunkK) {
      BulkCopy(weights + k * Shape::kChannels * 2, args.dt_proj + WeightIndex(channel0, k, args.rank_pad),
               Shape::kChannels * kChunkK * 2, &weights_full);
    }
  }

  // This lane: channels c .. c+3, state indices n0 + kLanes * j; rows way, way + kRowWays, ...
  const int c = channel0 + warp % Shape::kGroups * Shape::kWarpChannels + lane / kLanes * kQuad;
  const int n0 = lane % kLanes;
  const int way = warp / Shape::kGroups;
  const bool exists = c < args.channels;
  const std::int64_t n_stride = static_cast<std::int64_t>(kLanes) * args.channels;
  const int lane_slot = lane < row_count ? args.slot_index[row0 + lane] : kNoSlot;
  if constexpr (kNarrow) {
    if (warp == 0 && lane_slot != kNoSlot) {
      const RoundingKey& now =
          *reinterpret_cast<const RoundingKey*>(args.state.base + lane_slot * args.state.slot_stride_bytes);
      keys[lane] = {now.seed, now.position + 1};
    }
  }
  RowStates<kPerLane, kNarrow> ahead[Shape::kAhead];
  const auto load_states = [&](int i, RowStates<kPerLane, kNarrow>& to) {
    const int row = way + Shape::kRowWays * i;
    const int slot = __shfl_sync(~0u, lane_slot, row % 32);
    to.at = row < row_count && exists && slot != kNoSlot
                ? reinterpret_cast<typename InSlot::Element*>(SlotData(args.state, slot)) + c +
                      static_cast<std::int64_t>(n0) * args.channels
                : nullptr;
    if (to.at == nullptr) return;
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) to.h[j] = InSlot::Load(to.at + j * n_stride);
  };
  const auto load_inputs = [&](int i, RowStates<kPerLane, kNarrow>& to) {
    if (to.at == nullptr) return;
    to.x = LoadFreshBf16(args.x + args.layout.Index(row0 + way + Shape::kRowWays * i, c));
    to.gate = LoadFreshBf16(args.gate + args.layout.Index(row0 + way + Shape::kRowWays * i, c));
  };
#pragma unroll
  for (int i = 0; i < Shape::kAhead; ++i) load_states(i, ahead[i]);
  float4 decay[Shape::kDecayShared ? 1 : kPerLane];
  if constexpr (Shape::kDecayShared) {
    for (int i = threadIdx.x * kQuad; i < kN * Shape::kChannels; i += Shape::kThreads * kQuad) {
      const int channel = channel0 + i % Shape::kChannels;
      if (channel < args.channels)
        hopper::AsyncCopy16(
            shared_decay + i,
            args.decay_log2 + static_cast<std::int64_t>(i / Shape::kChannels) * args.channels + channel);
    }
  } else if (exists) {
#pragma unroll
    for (int j = 0; j < kPerLane; ++j)
      decay[j] = Load4(args.decay_log2 + static_cast<std::int64_t>(n0) * args.channels + j * n_stride + c);
  }
  const float4 skip = exists ? Load4(args.skip + c) : float4{};
  float dt_bias[2];  // of the channels whose delta this lane completes
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const int channel = channel0 + warp * 16 + lane / 4 + i * 8;
    dt_bias[i] = channel < args.channels ? args.dt_bias[channel] : 0.0f;
  }
  if constexpr (Shape::kHasAhead) BringStatesAhead<Shape, kN, kNarrow>(args);
  WaitForPreviousKernel();

  CopyRows<kWarps>(args.dt_bc + static_cast<std::int64_t>(row0) * width, row_count, width, raw, stride);
#pragma unroll
  for (int i = 0; i < Shape::kAhead; ++i) load_inputs(i, ahead[i]);
  hopper::AsyncCopyWaitAll();
  __syncthreads();
  if (args.norm_eps >= 0.0f) {
    for (int row = warp; row < row_count; row += kWarps) {
      const float* from = raw + row * stride;
      const int begin[] = {0, args.rank, args.rank + kN, width};
#pragma unroll
      for (int i = 0; i < 3; ++i) {
        const float scale = PlainScale(from + begin[i], begin[i + 1] - begin[i], args.norm_eps);
        if (lane == 0) scales[i][row] = scale;
      }
    }
    __syncthreads();
  }

  WaitBarrier(&weights_full, 0);
#pragma unroll
  for (int row_tile = 0; row_tile < Shape::kRowTiles; ++row_tile) {  // delta of 16 channels by 8 rows
    float sum[4] = {};
    const std::uint32_t a_lane =
        SharedAddress(weights) + (2 * warp + lane / 8 % 2) * kRowBlockBytes + lane / 16 * 128 + lane % 8 * 16;
    // A column past the rows takes the last one's dt: nobody reads its results.
    const float* const dt = raw + min(row_tile * kCore + lane / 4, row_count - 1) * stride;
    const auto dt_pair = [&](int k) {  // bf16, 0 past the rank
      const float2 value = *reinterpret_cast<const float2*>(dt + k);
      const __nv_bfloat162 pair =
          __floats2bfloat162_rn(k < args.rank ? value.x : 0.0f, k + 1 < args.rank ? value.y : 0.0f);
      return reinterpret_cast<const std::uint32_t&>(pair);
    };
#pragma unroll 2
    for (int k = 0; k < args.rank; k += 32) {
      std::uint32_t a0[4], a1[4], b[4];
      const std::uint32_t a = a_lane + k / kChunkK * (Shape::kChannels * kChunkK * 2) + k % kChunkK * 16;
      hopper::LoadMatrices(a, a0);
      hopper::LoadMatrices(a + 256, a1);
#pragma unroll
      for (int i = 0; i < 4; ++i) b[i] = dt_pair(k + 8 * i + lane % 4 * 2);
      hopper::Mma(sum, a0, b[0], b[1]);
      hopper::Mma(sum, a1, b[2], b[3]);
    }
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      const int channel = warp * 16 + lane / 4 + i / 2 * 8;
      const int row = row_tile * kCore + lane % 4 * 2 + i % 2;
      if (row >= row_count) continue;
      float product = sum[i];
      if (args.norm_eps >= 0.0f) product = __fmul_rn(product, scales[0][row]);
      delta[row * Shape::kDeltaStride + channel] = SoftplusApprox(__fadd_rn(product, dt_bias[i / 2]));
    }
  }
  __syncthreads();

#pragma unroll 1
  for (int first = 0; first < Shape::kRowsPerWarp; first += Shape::kAhead) {
#pragma unroll
    for (int i = 0; i < Shape::kAhead; ++i) {
      const int row = way + Shape::kRowWays * (first + i);
      if (row >= row_count) break;
      RowStates<kPerLane, kNarrow>& states = ahead[i];
      const float4 d = Load4(delta + row * Shape::kDeltaStride + (c - channel0));
      const float4 x = WidenBf16(states.x);
      const float4 dx = MultiplyEach(d, x);
      const float* const b = raw + row * stride + args.rank;
      float4 sum[4 / kLanes] = {};
      PhiloxWords words;
#pragma unroll
      for (int k = 0; k < kPerLane; ++k) {
        const int j = InSlot::Order(k, kLanes);
        float bn = b[n0 + kLanes * j];
        float cn = b[kN + n0 + kLanes * j];
        if (args.norm_eps >= 0.0f) {
          bn = __fmul_rn(bn, scales[1][row]);
          cn = __fmul_rn(cn, scales[2][row]);
        }
        const float4 a = Shape::kDecayShared
                             ? Load4(shared_decay + (n0 + j * kLanes) * Shape::kChannels + (c - channel0))
                             : decay[Shape::kDecayShared ? 0 : j];
        float4 h = InSlot::Widen(states.h[j]);
        float4& partial = sum[j % (4 / kLanes)];
#pragma unroll
        for (int q = 0; q < kQuad; ++q) {
          At(h, q) = __fmaf_rn(Exp2Approx(__fmul_rn(At(d, q), At(a, q))), At(h, q), __fmul_rn(At(dx, q), bn));
          At(partial, q) = __fmaf_rn(At(h, q), cn, At(partial, q));
        }
        if constexpr (kNarrow) {
          if (k % 2 == 0)
            words = RoundingWords(keys[row], args.state.layer, static_cast<std::uint32_t>(c) / kRoundingQuad,
                                  RoundingBlockOf(static_cast<std::uint32_t>(n0 + kLanes * j)));
          const uint2 rounded = RoundQuad(h, words, k % 2 != 0);
          if (states.at != nullptr) __stcs(reinterpret_cast<uint2*>(states.at + j * n_stride), rounded);
        } else {
          if (states.at != nullptr) __stcs(reinterpret_cast<float4*>(states.at + j * n_stride), h);
        }
      }
      float4 y = SumOverState(sum);
      const float4 gate = WidenBf16(states.gate);
#pragma unroll
      for (int q = 0; q < kQuad; ++q)
        At(y, q) = __fmul_rn(__fmaf_rn(At(skip, q), At(x, q), At(y, q)), At(gate, q));
      if (states.at != nullptr && n0 == 0) StoreBf16(args.y + args.layout.Index(row0 + row, c), y);
      if constexpr (Shape::kRowsPerWarp > Shape::kAhead) {
        load_states(first + i + Shape::kAhead, states);
        load_inputs(first + i + Shape::kAhead, states);
      }
    }
  }
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STATE_STEP_CUH_
