// The selective scan over packed prompt chunks: sequential in time, parallel over (channel, state).
//
// kLanes lanes hold a channel, kStates states each: state n lies in lane n % kLanes. A warp advances
// 32 / kLanes channels by kLanes tokens a step; before a step each lane prepares one of its tokens (delta,
// delta * x), after it each lane receives the sum over n of one token and finishes it (skip, gate, bf16). The
// state stays in registers from the chunk's first token to its last.
//
// The sum over n is a tree of halves, padded N: p[n] = C[n] h[n] by a fused multiply-add onto the product of
// n + N/2, then p[n] + p[n + N/4], ... : the same bits for every kLanes <= N/2.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_CUH_

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/ampere.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/math/device_exp.cuh"

namespace mambad::kernels {

struct SelectiveScanPrompt {
  const __nv_bfloat16* xz;  // tiles of in_proj's output: the window's inputs in channels [0, D), z in [D, 2D)
  const __nv_bfloat16* x;   // tiles, after convolution
  const float* delta;       // fp32 tiles by DeltaIndex, after softplus
  const float* bc;          // as mamba_layer/dt_bc_prompt.cuh lays it out
  const float* decay_log2;  // (N, D)
  const float* skip;        // (D)
  __nv_bfloat16* y;         // tiles, zero past D
  const std::int64_t* offsets;      // (chunks + 1)
  const std::int32_t* slot_index;   // (chunks)
  const std::int32_t* state_index;  // (chunks): the same, or where a narrow state is wide
  DeviceSlots state;                // (N, D) per slot of state_index
  DeviceSlots window;               // (K-1, D) bf16 per slot of slot_index
  std::int64_t token_blocks;
  std::int32_t channels;    // D
  std::int32_t state_size;  // N
  std::int32_t width;       // K
};

template <int kLanes, int kStates>
struct ScanLayout {
  static constexpr int kChannels = 32 / kLanes;        // of a warp
  static constexpr int kStateSize = kLanes * kStates;  // padded N
  static constexpr int kTile = 32;                     // tokens of B and C in a stage
  static constexpr int kStages = kStateSize < 128 ? 4 : 2;
  static constexpr int kGroupFloats = 2 * kStateSize * 4;  // B and C of 4 tokens
  static constexpr int kStageFloats = kTile / 4 * kGroupFloats;
  static constexpr int kSteps = kTile / kLanes;  // of a tile
  // Per warp: delta and delta * x of a step, twice.
  static constexpr int kWarpFloats = 2 * 2 * 32;
  static constexpr int SharedBytes(int warps) {
    return (kStages * kStageFloats + warps * kWarpFloats) * static_cast<int>(sizeof(float));
  }
};

// One lane's inputs of a token, as they were loaded; x and z are bf16 bits.
struct ScanInput {
  std::uint32_t x, z;
  float delta;
};

__device__ __forceinline__ std::uint32_t LoadBits(const __nv_bfloat16* p) {
  return *reinterpret_cast<const unsigned short*>(p);
}
__device__ __forceinline__ float WidenBf16(std::uint32_t bits) { return __uint_as_float(bits << 16); }

// sum_n C[n] h[n] over this lane's states.
template <int kStates>
__device__ __forceinline__ float LaneOutput(const float (&c)[kStates], const float (&h)[kStates]) {
  if constexpr (kStates == 1) {
    return __fmul_rn(c[0], h[0]);
  } else {
    float p[kStates / 2];
#pragma unroll
    for (int s = 0; s < kStates / 2; ++s) {
      p[s] = __fmaf_rn(c[s], h[s], __fmul_rn(c[s + kStates / 2], h[s + kStates / 2]));
    }
#pragma unroll
    for (int half = kStates / 4; half > 0; half /= 2) {
#pragma unroll
      for (int s = 0; s < half; ++s) p[s] = __fadd_rn(p[s], p[s + half]);
    }
    return p[0];
  }
}

// `condition ? a : b` without a branch, which the compiler would put around the shuffles.
__device__ __forceinline__ float Select(std::uint32_t condition, float a, float b) {
  float r;
  asm("{\n.reg .pred p;\nsetp.ne.u32 p, %3, 0;\nselp.f32 %0, %1, %2, p;\n}"
      : "=f"(r)
      : "f"(a), "f"(b), "r"(condition));
  return r;
}

// Sums over the lanes of a channel; lane j of it receives the total of y[j].
template <int kLanes>
__device__ __forceinline__ float TransposeSum(float (&y)[kLanes], int j) {
#pragma unroll
  for (int half = kLanes / 2; half > 0; half /= 2) {
    const std::uint32_t upper = j & half;
#pragma unroll
    for (int i = 0; i < half; ++i) {
      const float keep = Select(upper, y[i + half], y[i]);
      const float send = Select(upper, y[i], y[i + half]);
      y[i] = __fadd_rn(keep, __shfl_xor_sync(~0u, send, half * (32 / kLanes)));
    }
  }
  return y[0];
}

template <int kLanes, int kStates>
struct ScanLane {
  using Layout = ScanLayout<kLanes, kStates>;
  float h[kStates];
  float decay[kStates];
  int j;        // lane of the channel
  int channel;  // of the warp

  // Advances by the `count` tokens of a step and returns the sum over n of token j.
  template <bool kFull>
  __device__ __forceinline__ float Step(const float* bc, const float* delta, const float* delta_x,
                                        int count) {
    float y[kLanes];
#pragma unroll
    for (int group = 0; group < kLanes / 4; ++group) {
      float4 b[kStates], c[kStates];
#pragma unroll
      for (int s = 0; s < kStates; ++s) {
        const float4* at =
            reinterpret_cast<const float4*>(bc + group * Layout::kGroupFloats) + j + kLanes * s;
        b[s] = at[0];
        c[s] = at[Layout::kStateSize];
      }
      const float4 d = *reinterpret_cast<const float4*>(delta + channel * kLanes + group * 4);
      const float4 dx = *reinterpret_cast<const float4*>(delta_x + channel * kLanes + group * 4);
#pragma unroll
      for (int i = 0; i < 4; ++i) {
        const int token = group * 4 + i;
        y[token] = 0.0f;
        if (kFull || token < count) {
          float c_i[kStates];
#pragma unroll
          for (int s = 0; s < kStates; ++s) {
            const float a = Exp2Approx(__fmul_rn(Part(d, i), decay[s]));
            h[s] = __fmaf_rn(a, h[s], __fmul_rn(Part(dx, i), Part(b[s], i)));
            c_i[s] = Part(c[s], i);
          }
          y[token] = LaneOutput<kStates>(c_i, h);
        }
      }
    }
    return TransposeSum<kLanes>(y, j);
  }

  static __device__ __forceinline__ float Part(const float4& v, int i) {
    return i == 0 ? v.x : i == 1 ? v.y : i == 2 ? v.z : v.w;
  }
};

// The window after the chunk: its last K-1 inputs, or what is left of the old ones and all of its own.
__device__ __forceinline__ void ReplaceWindow(const SelectiveScanPrompt& args, std::int32_t slot,
                                              std::int64_t begin, std::int64_t end, int d) {
  __nv_bfloat16* window = args.window.Bf16At(slot) + d;
  const int length = static_cast<int>(end - begin < args.width ? end - begin : args.width);
  for (int k = 0; k < args.width - 1; ++k) {
    const int back = args.width - 1 - k;  // tokens before the end
    window[static_cast<std::int64_t>(k) * args.channels] =
        back <= length ? args.xz[TileIndex(args.token_blocks, end - back, d)]
                       : window[static_cast<std::int64_t>(k + length) * args.channels];
  }
}

// Grid: (channels, chunks).
template <int kLanes, int kStates>
__global__ void SelectiveScanPromptKernel(const SelectiveScanPrompt args) {
  using Layout = ScanLayout<kLanes, kStates>;
  extern __shared__ __align__(16) float tiles[];
  const int warps = blockDim.x / 32, warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const int channel = lane % Layout::kChannels;
  const int own = (blockIdx.x * warps + warp) * Layout::kChannels + channel;
  const bool live = own < args.channels;
  const int d = live ? own : args.channels - 1;
  float* prepared = tiles + Layout::kStages * Layout::kStageFloats + warp * Layout::kWarpFloats;

  ScanLane<kLanes, kStates> it;
  it.channel = channel;
  it.j = lane / Layout::kChannels;
#pragma unroll
  for (int s = 0; s < kStates; ++s) {
    const int n = it.j + kLanes * s;
    it.decay[s] =
        n < args.state_size ? args.decay_log2[static_cast<std::int64_t>(n) * args.channels + d] : 0.0f;
  }
  const float skip = args.skip[d];
  WaitForPreviousKernel();
  AllowNextKernel();
  const std::int32_t slot = args.slot_index[blockIdx.y];
  const std::int64_t begin = args.offsets[blockIdx.y], end = args.offsets[blockIdx.y + 1];
  if (slot == kNoSlot || begin == end) return;
  const std::int32_t state_slot = args.state_index[blockIdx.y];

  const auto state_at = [&](int n) {
    return args.state.At(state_slot) + static_cast<std::int64_t>(n) * args.channels + d;
  };
#pragma unroll
  for (int s = 0; s < kStates; ++s) {
    const int n = it.j + kLanes * s;
    it.h[s] = n < args.state_size ? *state_at(n) : 0.0f;
  }

  const int length = static_cast<int>(end - begin);
  const float* bc = args.bc + BcStart(begin, blockIdx.y) / 4 * Layout::kGroupFloats;
  const int stages = (length + Layout::kTile - 1) / Layout::kTile;
  const auto fetch = [&](int tile) {
    if (tile < stages) {
      const float* from = bc + static_cast<std::int64_t>(tile) * Layout::kStageFloats;
      float* to = tiles + tile % Layout::kStages * Layout::kStageFloats;
      for (int i = threadIdx.x * 4; i < Layout::kStageFloats; i += blockDim.x * 4)
        AsyncCopy16(to + i, from + i);
    }
    AsyncCopyCommit();
  };
  const __nv_bfloat16* x_column = args.x + TileIndex(args.token_blocks, 0, d);
  const __nv_bfloat16* z_column = args.xz + TileIndex(args.token_blocks, 0, args.channels + d);
  const float* delta_column = args.delta + DeltaIndex(args.token_blocks, 0, d);
  const bool stored = own < Slabs(args.channels) * kSlabChannels;
  __nv_bfloat16* y_column = args.y + TileIndex(args.token_blocks, 0, stored ? own : 0);
  ScanInput in[Layout::kSteps];
  const auto load = [&](int tile) {
#pragma unroll
    for (int step = 0; step < Layout::kSteps; ++step) {
      const int position = tile * Layout::kTile + step * kLanes + it.j;
      const std::uint32_t token = static_cast<std::uint32_t>(begin) + min(position, length - 1);
      const std::uint32_t at = TokenOffset(token);
      in[step] = {LoadBits(x_column + at), LoadBits(z_column + at), delta_column[DeltaTokenOffset(token)]};
    }
  };
#pragma unroll
  for (int i = 0; i < Layout::kStages - 1; ++i) fetch(i);
  load(0);
  for (int tile = 0; tile < stages; ++tile) {
    ScanInput now[Layout::kSteps];
#pragma unroll
    for (int step = 0; step < Layout::kSteps; ++step) now[step] = in[step];
    if (tile + 1 < stages) load(tile + 1);
    AsyncCopyWait<Layout::kStages - 2>();
    __syncthreads();  // the tile is there for all, and the stage before it is free
    fetch(tile + Layout::kStages - 1);
    const float* tile_bc = tiles + tile % Layout::kStages * Layout::kStageFloats;
#pragma unroll
    for (int step = 0; step < Layout::kSteps; ++step) {
      const int count = length - tile * Layout::kTile - step * kLanes;  // tokens from this step on
      if (count <= 0) break;
      float* delta = prepared + step % 2 * 64;
      float* delta_x = delta + 32;
      const float x = WidenBf16(now[step].x);
      delta[channel * kLanes + it.j] = now[step].delta;
      delta_x[channel * kLanes + it.j] = __fmul_rn(now[step].delta, x);
      __syncwarp();
      const float* step_bc = tile_bc + step * (kLanes / 4) * Layout::kGroupFloats;
      const float sum = count >= kLanes ? it.template Step<true>(step_bc, delta, delta_x, count)
                                        : it.template Step<false>(step_bc, delta, delta_x, count);
      const float gate = FastSilu(WidenBf16(now[step].z));
      const float y = __fmul_rn(__fmaf_rn(skip, x, sum), gate);
      const std::uint32_t token =
          static_cast<std::uint32_t>(begin) + tile * Layout::kTile + step * kLanes + it.j;
      if (it.j < count && stored) y_column[TokenOffset(token)] = __float2bfloat16_rn(live ? y : 0.0f);
    }
  }
  if (!live) return;
#pragma unroll
  for (int s = 0; s < kStates; ++s) {
    const int n = it.j + kLanes * s;
    if (n < args.state_size) *state_at(n) = it.h[s];
  }
  if (it.j == 0) ReplaceWindow(args, slot, begin, end, d);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_CUH_
