// The convolution with SiLU over packed prompt tokens: the first D channels of in_proj's tiles to tiles of x.
// A thread takes one token at a time of eight channels, so that a warp reads and writes whole core matrices;
// the earlier taps come from the cache. The window in the slot is only read: the scan, which visits the end
// of every chunk after this kernel, replaces it.
#ifndef MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_CUH_
#define MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_CUH_

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"
#include "kernels/math/device_exp.cuh"

namespace mambad::kernels {

struct CausalConv1dPrompt {
  const __nv_bfloat16* x;  // tiles of in_proj's output
  __nv_bfloat16* y;        // tiles, zero past D
  const float* weight;     // (K, D)
  const float* bias;       // (D) or null
  const TokenPlace* places;
  DeviceSlots window;  // (K-1, D) bf16 per slot
  std::int64_t token_blocks;
  std::int32_t tokens;
  std::int32_t channels;  // D
  std::int32_t width;     // K
};

inline constexpr int kConvTokens = 128;  // of a block

__device__ __forceinline__ void Widen(const Bf16x8& x, float (&out)[8]) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float2 pair = __bfloat1622float2(x.pair[i]);
    out[2 * i] = pair.x;
    out[2 * i + 1] = pair.y;
  }
}

// The input `back` tokens before the packed token, as if both were of one chunk.
__device__ __forceinline__ Bf16x8 LoadTap(const __nv_bfloat16* column, std::int32_t token, int back) {
  return *reinterpret_cast<const Bf16x8*>(column + TokenOffset(token >= back ? token - back : 0));
}

// The same where it lies before the chunk: in the window.
__device__ __forceinline__ void LoadWindowTap(const CausalConv1dPrompt& args, const TokenPlace& place,
                                              int back, int channel, float (&tap)[8]) {
  const __nv_bfloat16* row =
      args.window.Bf16At(place.slot) +
      static_cast<std::int64_t>(args.width - 1 + place.position - back) * args.channels;
#pragma unroll
  for (int i = 0; i < 8; ++i)
    tap[i] = channel + i < args.channels ? __bfloat162float(row[channel + i]) : 0.0f;
}

__device__ __forceinline__ void LoadFilterRow(const float* row, int channel, int channels, float (&out)[8]) {
#pragma unroll
  for (int i = 0; i < 8; ++i) out[i] = row != nullptr && channel + i < channels ? row[channel + i] : 0.0f;
}

// kWidth: K, or 0 for any. Grid: (kConvTokens tokens, slabs); 256 threads.
template <int kWidth>
__global__ void __launch_bounds__(256) CausalConv1dPromptKernel(const CausalConv1dPrompt args) {
  constexpr int kHeld = kWidth > 0 ? kWidth : 1;
  const int width = kWidth > 0 ? kWidth : args.width;
  const int channel = blockIdx.y * 64 + threadIdx.x / 8 % 8 * 8;
  const __nv_bfloat16* x = args.x + TileIndex(args.token_blocks, 0, channel);
  __nv_bfloat16* y = args.y + TileIndex(args.token_blocks, 0, channel);
  float bias[8], held[kHeld][8];
  LoadFilterRow(args.bias, channel, args.channels, bias);
  if constexpr (kWidth > 0) {
#pragma unroll
    for (int k = 0; k < kWidth; ++k)
      LoadFilterRow(args.weight + k * args.channels, channel, args.channels, held[k]);
  }
  WaitForPreviousKernel();
  AllowNextKernel();
#pragma unroll 2
  for (int i = 0; i < kConvTokens / 32; ++i) {
    const std::int32_t token = blockIdx.x * kConvTokens + i * 32 + threadIdx.x / 64 * 8 + threadIdx.x % 8;
    TokenPlace place{kNoSlot, 0, 0, 0};
    if (token < args.tokens) place = args.places[token];
    Bf16x8 taps[kHeld];  // all at once, before it is known where the chunk begins
    if constexpr (kWidth > 0) {
#pragma unroll
      for (int k = 0; k < kWidth; ++k) taps[k] = LoadTap(x, token, kWidth - 1 - k);
    }
    float sum[8];
#pragma unroll
    for (int c = 0; c < 8; ++c) sum[c] = bias[c];
#pragma unroll
    for (int k = 0; k < width; ++k) {
      const int back = width - 1 - k;
      float tap[8], weight[8];
      Widen(kWidth > 0 ? taps[k % kHeld] : LoadTap(x, token, back), tap);
      if (place.slot != kNoSlot && place.position < back) LoadWindowTap(args, place, back, channel, tap);
      if constexpr (kWidth == 0) {
        LoadFilterRow(args.weight + static_cast<std::int64_t>(k) * args.channels, channel, args.channels,
                      weight);
      }
#pragma unroll
      for (int c = 0; c < 8; ++c)
        sum[c] = __fmaf_rn(tap[c], kWidth > 0 ? held[k % kHeld][c] : weight[c], sum[c]);
    }
    Bf16x8 out;
#pragma unroll
    for (int c = 0; c < 8; ++c) {
      sum[c] = channel + c < args.channels && place.slot != kNoSlot ? FastSilu(sum[c]) : 0.0f;
    }
#pragma unroll
    for (int c = 0; c < 4; ++c) out.pair[c] = __floats2bfloat162_rn(sum[2 * c], sum[2 * c + 1]);
    *reinterpret_cast<Bf16x8*>(y + TokenOffset(token)) = out;
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_CAUSAL_CONV1D_CAUSAL_CONV1D_PROMPT_CUH_
