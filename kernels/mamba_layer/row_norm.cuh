// RMS norm without a pass of its own. The kernel that completes the residual stream also writes
//   u = bf16(residual * weight)            what the next product reads, not yet scaled, and
//   the sum of squares of every 16 values,
// and the product multiplies each of its results by the row's scale. The sum's tree: quads
// (a+b) + (c+d) and two pairwise levels to 16 values, 32 interleaved partial sums of those, quads again and
// three pairwise levels.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_

#include <cstdint>

#include "kernels/mamba_layer/quad.cuh"

namespace mambad::kernels {

inline constexpr int kSquareSumWidth = 16;

struct NormedRows {          // what a product reads
  const float* square_sums;  // (rows, width / 16)
  int width;
  float eps;
};

// 1 / sqrt(mean of squares + eps) for four rows by a warp, eight lanes each: row `row` of this lane's eight.
// Rows from `end` on are not read.
__device__ __forceinline__ float RowScale(const NormedRows& rows, int row, int end) {
  const int count = rows.width / kSquareSumWidth;  // a multiple of 4
  const float* sums = rows.square_sums + static_cast<std::int64_t>(row) * count;
  constexpr int kAhead = 5;  // loads under way: all of 2,560 values
  float4 sum = {};
#pragma unroll 1
  for (int first = threadIdx.x % 8 * kQuad; first < count; first += kAhead * 8 * kQuad) {
    float4 part[kAhead];
#pragma unroll
    for (int i = 0; i < kAhead; ++i) {
      const int at = first + i * 8 * kQuad;
      part[i] = row < end && at < count ? LoadFresh4(sums + at) : float4{};
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i) sum = AddEach(sum, part[i]);  // a sum of squares stays as it is by + 0
  }
  float total = __fadd_rn(__fadd_rn(sum.x, sum.y), __fadd_rn(sum.z, sum.w));
#pragma unroll
  for (int mask = 4; mask > 0; mask /= 2) total = __fadd_rn(total, __shfl_xor_sync(~0u, total, mask));
  const float mean = __fdiv_rn(total, static_cast<float>(rows.width));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, rows.eps)));
}

struct NormInput {      // what the producer of the residual stream writes
  const float* weight;  // of the norm that comes next
  std::uint16_t* u;
  float* square_sums;  // (rows, width / 16)
  int width;
  StepLayout layout;  // of u
};

// Values m .. m+3 of row b and their norm weights; lanes i and i ^ 1, i ^ 2 hold the other quads of the
// same 16. Every lane of the warp must call; `store` says whether this quad exists.
__device__ __forceinline__ void StoreNormInput(const NormInput& norm, int m, int b, float4 value,
                                               float4 weight, bool store) {
  float sum = __fadd_rn(__fadd_rn(__fmul_rn(value.x, value.x), __fmul_rn(value.y, value.y)),
                        __fadd_rn(__fmul_rn(value.z, value.z), __fmul_rn(value.w, value.w)));
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 2));
  if (!store) return;
  StoreBf16(norm.u + norm.layout.Index(b, m), {__fmul_rn(value.x, weight.x), __fmul_rn(value.y, weight.y),
                                               __fmul_rn(value.z, weight.z), __fmul_rn(value.w, weight.w)});
  if (m % kSquareSumWidth == 0)
    norm.square_sums[static_cast<std::int64_t>(b) * (norm.width / kSquareSumWidth) + m / kSquareSumWidth] =
        sum;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_
