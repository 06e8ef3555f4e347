// rms_norm of the residual rows into bf16 token tiles, the input of in_proj. A warp takes a token, a block a
// token block; lanes are the partial sums of math/tree_sum.h, so the sum has the same bits as on the CPU.
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

// Grid: token blocks. Shared: 8 tokens x padded width in bf16. Tokens without a slot become zeros. kHeld: the
// elements of a row that a lane keeps between the sum and the product, all of them; 0: it reads them twice.
template <int kHeld>
__global__ void __launch_bounds__(256) RmsNormPromptKernel(const RmsNormPrompt args) {
  extern __shared__ __nv_bfloat16 normed[];  // [channel block][token][8]
  WaitForPreviousKernel();
  AllowNextKernel();
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
  const std::int32_t token = blockIdx.x * 8 + warp;
  const int padded = static_cast<int>(Slabs(args.width) * kSlabChannels);
  const bool live = token < args.tokens && args.places[token].slot != kNoSlot;
  const float* row = args.residual + static_cast<std::int64_t>(token) * args.width;
  const auto put = [&](int i, float v) { normed[(i / 8 * 8 + warp) * 8 + i % 8] = __float2bfloat16_rn(v); };
  if constexpr (kHeld > 0) {
    float held[kHeld];
#pragma unroll
    for (int k = 0; k < kHeld; ++k) held[k] = live && k * 32 + lane < args.width ? row[k * 32 + lane] : 0.0f;
    float sum = 0.0f;
#pragma unroll
    for (int k = 0; k < kHeld; ++k) sum = __fadd_rn(sum, __fmul_rn(held[k], held[k]));
    const float scale = RmsScale(WarpTreeTotal(sum), args.width, args.eps);
#pragma unroll
    for (int k = 0; k < kHeld; ++k) {
      const int i = k * 32 + lane;
      if (i < padded) put(i, i < args.width ? __fmul_rn(__fmul_rn(held[k], scale), args.weight[i]) : 0.0f);
    }
  } else {
    const float scale = live ? WarpRmsScale(row, args.width, args.eps) : 0.0f;
#pragma unroll 4
    for (int i = lane; i < padded; i += 32) {
      put(i, live && i < args.width ? __fmul_rn(__fmul_rn(row[i], scale), args.weight[i]) : 0.0f);
    }
  }
  __syncthreads();
  const auto* from = reinterpret_cast<const Bf16x8*>(normed);
  for (int i = threadIdx.x; i < padded; i += 256) {  // 16 bytes each, 64 to a slab
    reinterpret_cast<Bf16x8*>(args.out)[(i / 64 * args.token_blocks + blockIdx.x) * 64 + i % 64] = from[i];
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_PROMPT_CUH_
