// RMS norm of prompt tokens without a pass of its own, as decode steps have it (mamba_layer/row_norm.cuh).
// Whoever completes the residual stream also writes
//   u = bf16(residual * weight)             what in_proj reads, not yet scaled, in token tiles, and
//   sums of the squares of 32 channels each,
// and in_proj multiplies each of its results by the token's scale. The sum's tree: two neighbours; the four
// pairs that are 8 channels apart, pairwise; those four sums, pairwise; groups in ascending order.
#ifndef MAMBAD_KERNELS_RMS_NORM_TOKEN_NORM_CUH_
#define MAMBAD_KERNELS_RMS_NORM_TOKEN_NORM_CUH_

#include <cuda_bf16.h>

#include <cstdint>

namespace mambad::kernels {

inline constexpr int kSquareSumChannels = 32;

__host__ __device__ constexpr std::int64_t SquareSumGroups(std::int64_t width) {
  return (width + kSquareSumChannels - 1) / kSquareSumChannels;
}

__device__ __forceinline__ float RmsScale(float sum_of_squares, int width, float eps) {
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum_of_squares, static_cast<float>(width)), eps)));
}

// Of two neighbours, the first one even.
__device__ __forceinline__ float SquaresOfPair(float even, float odd) {
  return __fmaf_rn(even, even, __fmul_rn(odd, odd));
}

// What is written.
struct TokenNormInput {
  const float* weight;  // (M); null: no norm follows, and nothing is written
  __nv_bfloat16* u;     // token tiles (M)
  float* square_sums;   // (groups, padded tokens)
};

// What is read.
struct TokenNorm {
  const float* square_sums;  // (groups, padded tokens)
  std::int64_t padded_tokens;
  std::int32_t width;  // M
  float eps;

  // 1 / rms of kTokens (1, 2 or 4) tokens from `token`, a multiple of kTokens, on; they may be padding.
  template <int kTokens>
  __device__ __forceinline__ void Scales(std::uint32_t token, float (&scales)[kTokens]) const {
    struct alignas(4 * kTokens) Sums {
      float of[kTokens];
    };
    constexpr int kAhead = 20 / kTokens;  // loads under way, in the registers that feeders have
    const int groups = static_cast<int>(SquareSumGroups(width));
    const float* at = square_sums + token;
    float total[kTokens] = {};
#pragma unroll 1
    for (int first = 0; first < groups; first += kAhead) {
      Sums part[kAhead];
#pragma unroll
      for (int i = 0; i < kAhead; ++i, at += padded_tokens)
        part[i] = first + i < groups ? *reinterpret_cast<const Sums*>(at) : Sums{};
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
#pragma unroll
        for (int t = 0; t < kTokens; ++t) total[t] = __fadd_rn(total[t], part[i].of[t]);
      }
    }
#pragma unroll
    for (int t = 0; t < kTokens; ++t) scales[t] = RmsScale(total[t], width, eps);
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_TOKEN_NORM_CUH_
