// rms_norm of the residual rows into bf16 token tiles, the input of in_proj. A warp takes a token, a block a
// token block. The sum's tree depends on the width alone.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_PROMPT_CUH_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_PROMPT_CUH_

#include "kernels/base/prompt_rows.cuh"
#include "kernels/device/hopper.cuh"

namespace mambad::kernels {

// The total of TreeSum whose partial sum of `lane` is `part`; in every lane.
__device__ __forceinline__ float WarpTreeTotal(float part) {
#pragma unroll
  for (int half = 16; half > 0; half /= 2) part = __fadd_rn(part, __shfl_xor_sync(~0u, part, half));
  return part;
}

__device__ __forceinline__ float RmsScale(float sum_of_squares, int width, float eps) {
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(__fdiv_rn(sum_of_squares, static_cast<float>(width)), eps)));
}

// 1 / rms of a row, by a warp.
__device__ __forceinline__ float WarpRmsScale(const float* row, int width, float eps) {
  float sum = 0.0f;
#pragma unroll 8
  for (int i = threadIdx.x % 32; i < width; i += 32) sum = __fadd_rn(sum, __fmul_rn(row[i], row[i]));
  return RmsScale(WarpTreeTotal(sum), width, eps);
}

struct RmsNormPrompt {
  const float* residual;  // (T, width)
  const float* weight;    // (width)
  const TokenPlace* places;
  __nv_bfloat16* out;  // token tiles
  std::int64_t token_blocks;
  std::int32_t tokens;
  std::int32_t width;
  float eps;
};

// Four elements at a time: element i goes to partial sum i mod 128, ascending; the four of a lane pairwise,
// then the lanes as in TreeSum. A fixed tree of the width alone.
struct RowQuads {
  const float4* row;
  int quads;

  __device__ __forceinline__ float4 At(int k) const {  // the lane's k-th
    const int i = k * 32 + static_cast<int>(threadIdx.x % 32);
    return i < quads ? row[i] : float4{0.0f, 0.0f, 0.0f, 0.0f};
  }
};

__device__ __forceinline__ void AddSquares(float4& sum, const float4& v) {
  sum.x = __fadd_rn(sum.x, __fmul_rn(v.x, v.x));
  sum.y = __fadd_rn(sum.y, __fmul_rn(v.y, v.y));
  sum.z = __fadd_rn(sum.z, __fmul_rn(v.z, v.z));
  sum.w = __fadd_rn(sum.w, __fmul_rn(v.w, v.w));
}

// Where the block's tokens lie in shared memory: eights of channels, 16 bytes further apart than their tokens
// need, so that no bank is met twice.
struct NormedTokens {
  static constexpr int kStride = 8 * 8 + 8;
  static constexpr int SharedBytes(std::int64_t width) {
    return static_cast<int>(Slabs(width) * kSlabChannels / 8 * kStride * sizeof(__nv_bfloat16));
  }
  static constexpr __device__ int At(int channel, int token) {
    return channel / 8 * kStride + token * 8 + channel % 8;
  }
};

// Grid: token blocks. Shared: NormedTokens. Tokens without a slot become zeros. kHeld: the quads of a row
// that a lane keeps between the sum and the product, all of them; 0: any width, read twice.
template <int kHeld>
__global__ void __launch_bounds__(256) RmsNormPromptKernel(const RmsNormPrompt args) {
  extern __shared__ __align__(16) __nv_bfloat16 normed[];
  WaitForPreviousKernel();
  AllowNextKernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int32_t token = blockIdx.x * 8 + warp;
  const int padded = static_cast<int>(Slabs(args.width) * kSlabChannels);
  const bool live = token < args.tokens && args.places[token].slot != kNoSlot;
  const float* row = args.residual + static_cast<std::int64_t>(live ? token : 0) * args.width;
  if constexpr (kHeld > 0) {
    const RowQuads quads{reinterpret_cast<const float4*>(row), live ? args.width / 4 : 0};
    const RowQuads weights{reinterpret_cast<const float4*>(args.weight), args.width / 4};
    float4 held[kHeld];
#pragma unroll
    for (int k = 0; k < kHeld; ++k) held[k] = quads.At(k);
    float4 sum{};
#pragma unroll
    for (int k = 0; k < kHeld; ++k) AddSquares(sum, held[k]);
    const float total = WarpTreeTotal(__fadd_rn(__fadd_rn(sum.x, sum.y), __fadd_rn(sum.z, sum.w)));
    const float scale = RmsScale(total, args.width, args.eps);
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
      const int i = (k * 32 + lane) * 4;
      const float4 w = weights.At(k);
      if (i < padded) {
        const __nv_bfloat162 low = __floats2bfloat162_rn(__fmul_rn(__fmul_rn(held[k].x, scale), w.x),
                                                         __fmul_rn(__fmul_rn(held[k].y, scale), w.y));
        const __nv_bfloat162 high = __floats2bfloat162_rn(__fmul_rn(__fmul_rn(held[k].z, scale), w.z),
                                                          __fmul_rn(__fmul_rn(held[k].w, scale), w.w));
        *reinterpret_cast<uint2*>(normed + NormedTokens::At(i, warp)) = {
            reinterpret_cast<const std::uint32_t&>(low), reinterpret_cast<const std::uint32_t&>(high)};
      }
    }
  } else {
    const float scale = live ? WarpRmsScale(row, args.width, args.eps) : 0.0f;
#pragma unroll 4
    for (int i = lane; i < padded; i += 32) {
      const float v = live && i < args.width ? __fmul_rn(__fmul_rn(row[i], scale), args.weight[i]) : 0.0f;
      normed[NormedTokens::At(i, warp)] = __float2bfloat16_rn(v);
    }
  }
  __syncthreads();
  for (int i = threadIdx.x; i < padded; i += 256) {  // 16 bytes each, 64 to a slab
    reinterpret_cast<Bf16x8*>(args.out)[(i / 64 * args.token_blocks + blockIdx.x) * 64 + i % 64] =
        *reinterpret_cast<const Bf16x8*>(normed + NormedTokens::At(i / 8 * 8, i % 8));
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_PROMPT_CUH_
