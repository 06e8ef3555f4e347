// The prompt convolution for the widths that models have. A block takes a slab's 128 tokens into shared
// memory; there a thread goes through a run of tokens of two channels with the window in registers, and
// leaves the results in place of the inputs.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_RUNS_CUH_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_RUNS_CUH_

#include "kernels/causal_conv1d/causal_conv1d_prompt.cuh"

namespace mambad::kernels {

// A warp takes eight channels, a quarter of its lanes each pair of them. The eight runs of a pair begin at
// different tokens mod 8, so that a warp's accesses touch all banks.
inline constexpr int kConvRun = 17;
static_assert(kConvRun % 8 == 1 && 8 * kConvRun >= kConvTokens && 7 * kConvRun < kConvTokens);

// In shared memory each channel block has its tokens in one row: the eight before the tile, the tile's, and
// room for what the last run computes past it.
inline constexpr int kConvTileRow = 8 + 8 * kConvRun;

// Two channels of a thread: the filter, and the window before the token at hand, oldest first.
template <int kWidth>
struct ConvPair {
  float weight[kWidth][2];
  float bias[2];
  float window[kWidth - 1][2];
  std::uint32_t mask;  // of the results: zero past D
  int channel, channels;

  __device__ __forceinline__ ConvPair(const CausalConv1dPrompt& args, int first)
      : channel(first), channels(args.channels) {
    mask = (channel < channels ? 0xffffu : 0u) | (channel + 1 < channels ? 0xffff0000u : 0u);
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      bias[c] = args.bias != nullptr && channel + c < channels ? args.bias[channel + c] : 0.0f;
#pragma unroll
      for (int k = 0; k < kWidth; ++k) {
        weight[k][c] = channel + c < channels ? args.weight[k * channels + channel + c] : 0.0f;
      }
    }
  }
  // From the tokens before `own` in shared memory.
  __device__ __forceinline__ void LoadWindow(const __nv_bfloat162* own) {
#pragma unroll
    for (int k = 0; k + 1 < kWidth; ++k) {
      const float2 tap = __bfloat1622float2(own[-4 * (kWidth - 1 - k)]);
      window[k][0] = tap.x, window[k][1] = tap.y;
    }
  }
  // The taps of a token at `position` that lie before its chunk.
  __device__ __forceinline__ void LoadWindow(const float* slot, int position) {
#pragma unroll
    for (int k = 0; k + 1 < kWidth; ++k) {
#pragma unroll
      for (int c = 0; c < 2; ++c) {
        if (k + position < kWidth - 1 && channel + c < channels) {
          window[k][c] = slot[static_cast<std::int64_t>(k + position) * channels + channel + c];
        }
      }
    }
  }
  // The result at a token, which joins the window.
  __device__ __forceinline__ __nv_bfloat162 Next(__nv_bfloat162 input) {
    const float2 pair = __bfloat1622float2(input);
    const float own[2] = {pair.x, pair.y};
    float result[2];
#pragma unroll
    for (int c = 0; c < 2; ++c) {
      float sum = bias[c];
#pragma unroll
      for (int k = 0; k + 1 < kWidth; ++k) sum = __fmaf_rn(window[k][c], weight[k][c], sum);
      result[c] = SiluApprox(__fmaf_rn(own[c], weight[kWidth - 1][c], sum));
#pragma unroll
      for (int k = 0; k + 1 < kWidth; ++k)
        window[k][c] = k + 2 < kWidth ? window[(k + 1) % (kWidth - 1)][c] : own[c];
    }
    __nv_bfloat162 packed = __floats2bfloat162_rn(result[0], result[1]);
    reinterpret_cast<std::uint32_t&>(packed) &= mask;
    return packed;
  }
};

// Grid: (kConvTokens tokens, slabs); 256 threads.
template <int kWidth>
__global__ void __launch_bounds__(256, 4) CausalConv1dPromptRunsKernel(const CausalConv1dPrompt args) {
  constexpr int kBlocks = kConvTokens / 8, kUnits = 64;  // 16-byte pieces of a block
  __shared__ Bf16x8 tile[8 * kConvTileRow];
  __shared__ std::int32_t positions[kConvTokens];  // -1: no slot
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  ConvPair<kWidth> pair(args, blockIdx.y * 64 + warp * 8 + lane % 4 * 2);
  WaitForPreviousKernel();
  AllowNextKernel();
  const std::int64_t first_unit = (blockIdx.y * args.token_blocks + blockIdx.x * kBlocks) * kUnits;
  const auto place_of = [](int unit) { return unit / 8 % 8 * kConvTileRow + unit / kUnits * 8 + unit % 8; };
  const auto* from = reinterpret_cast<const Bf16x8*>(args.x) + first_unit - kUnits;
#pragma unroll
  for (int i = 0; i < 1 + kBlocks / 4; ++i) {
    const int unit = i * 256 + threadIdx.x;
    if (unit < (1 + kBlocks) * kUnits && (unit >= kUnits || blockIdx.x > 0))
      tile[place_of(unit)] = from[unit];
  }
  const std::int32_t first_token = blockIdx.x * kConvTokens;
  if (threadIdx.x < kConvTokens) {
    TokenPlace place{kNoSlot, 0, 0, 0};
    if (first_token + static_cast<std::int32_t>(threadIdx.x) < args.tokens)
      place = args.places[first_token + threadIdx.x];
    positions[threadIdx.x] = place.slot == kNoSlot ? -1 : place.position;
  }
  __syncthreads();

  const int first = lane / 4 * kConvRun, last = min(first + kConvRun, kConvTokens) - 1;
  auto* const run = reinterpret_cast<__nv_bfloat162*>(tile + warp * kConvTileRow + 8 + first) + lane % 4;
  pair.LoadWindow(run);
  __syncwarp();  // no run's results before the next run has its window
  const int position = positions[first];
  if (position >= kWidth - 1 &&
      positions[last] == position + last - first) {  // of one chunk, as nearly all are
    __nv_bfloat162 inputs[kConvRun];
#pragma unroll
    for (int i = 0; i < kConvRun; ++i) inputs[i] = run[i * 4];
#pragma unroll
    for (int i = 0; i < kConvRun; ++i) run[i * 4] = pair.Next(inputs[i]);
  } else {
#pragma unroll 1
    for (int i = 0; i <= last - first; ++i) {
      const int at = positions[first + i];
      if (at == 0 || (i == 0 && at > 0)) {
        pair.LoadWindow(args.window.At(args.places[first_token + first + i].slot), at);
      }
      const __nv_bfloat162 result = pair.Next(run[i * 4]);
      run[i * 4] = at >= 0 ? result : __floats2bfloat162_rn(0.0f, 0.0f);
    }
  }
  __syncthreads();
  auto* to = reinterpret_cast<Bf16x8*>(args.y) + first_unit;
#pragma unroll
  for (int i = 0; i < kBlocks / 4; ++i) to[i * 256 + threadIdx.x] = tile[place_of(i * 256 + threadIdx.x) + 8];
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_RUNS_CUH_
