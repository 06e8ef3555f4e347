// RMS norm without a pass of its own. The kernel that completes the residual stream also writes
//   u = bf16(residual * weight)            what the next product reads, not yet scaled, and
//   sums of squares, of every 16 values or, above kCore rows, of every 128,
// and the product multiplies each of its results by the row's scale. The sum's tree: quads (a+b) + (c+d), two
// pairwise levels to 16 values, three to 128, eight interleaved partial sums of those, three pairwise levels.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_

#include <cstdint>

#include "kernels/mamba_layer/handover.cuh"
#include "kernels/mamba_layer/quad.cuh"

namespace mambad::kernels {

inline constexpr int kSquareSumWidth = 16, kSquareGroupWidth = 128;

// How many sums of squares of `sum_width` values a row of `width` values has.
__device__ constexpr int SquareSums(int width, int sum_width) { return (width + sum_width - 1) / sum_width; }

struct NormedRows {          // what a product reads
  const float* square_sums;  // (rows, SquareSums())
  int width;
  float eps;
};

__device__ __forceinline__ float SumOfQuad(float4 v) {
  return __fadd_rn(__fadd_rn(v.x, v.y), __fadd_rn(v.z, v.w));
}

// 1 / sqrt(mean of squares + eps), by the eight lanes of a row, of their parts of its sum.
__device__ __forceinline__ float ScaleOfParts(const NormedRows& rows, float total) {
#pragma unroll
  for (int mask = 4; mask > 0; mask /= 2) total = __fadd_rn(total, __shfl_xor_sync(~0u, total, mask));
  const float mean = __fdiv_rn(total, static_cast<float>(rows.width));
  return __fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, rows.eps)));
}

// The scales of four rows by a warp, eight lanes each, in a step of up to kCore rows: row `row` of this
// lane's eight. Rows from `end` on are not read. kAwaits: the sums are handed over within a kernel.
template <bool kAwaits = false>
__device__ __forceinline__ float RowScale(const NormedRows& rows, int row, int end) {
  constexpr int kSums = kSquareGroupWidth / kSquareSumWidth;
  constexpr int kAhead = 3;  // groups whose loads are under way: all of 3,072 values
  const int count = SquareSums(rows.width, kSquareSumWidth);  // a multiple of 4
  const float* sums = rows.square_sums + static_cast<std::int64_t>(row) * count;
  float total = 0.0f;
  if constexpr (kAwaits) AwaitWord(rows.square_sums);
#pragma unroll 1
  for (int first = threadIdx.x % 8 * kSums; first < count; first += kAhead * 8 * kSums) {
    float4 part[kAhead][2];
#pragma unroll
    for (int i = 0; i < kAhead * 2; ++i) {
      const int at = first + i / 2 * 8 * kSums + i % 2 * kQuad;
      part[i / 2][i % 2] = row < end && at < count
                               ? kAwaits ? FloatsOf(LoadHanded16(sums + at)) : LoadFresh4(sums + at)
                               : float4{};
    }
    if constexpr (kAwaits) {
#pragma unroll
      for (int i = 0; i < kAhead * 2; ++i) {
        const int at = first + i / 2 * 8 * kSums + i % 2 * kQuad;
        if (row < end && at < count) AwaitFloats(sums + at, part[i / 2][i % 2]);
      }
    }
#pragma unroll
    for (int i = 0; i < kAhead; ++i)
      total = __fadd_rn(total, __fadd_rn(SumOfQuad(part[i][0]), SumOfQuad(part[i][1])));
  }
  return ScaleOfParts(rows, total);
}

// The same in a step of more rows, for kFours times four rows: row + 4, row + 8, ... too.
template <int kFours>
__device__ __forceinline__ void GroupedRowScales(const NormedRows& rows, int row, int end,
                                                 float (&scales)[kFours]) {
  constexpr int kAhead = 3;
  const int count = SquareSums(rows.width, kSquareGroupWidth);
  float total[kFours] = {};
#pragma unroll 1
  for (int first = threadIdx.x % 8; first < count; first += kAhead * 8) {
    float part[kFours][kAhead];
#pragma unroll
    for (int four = 0; four < kFours; ++four) {
      const float* sums = rows.square_sums + static_cast<std::int64_t>(row + four * 4) * count;
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int at = first + i * 8;
        part[four][i] = row + four * 4 < end && at < count ? __ldcg(sums + at) : 0.0f;
      }
    }
#pragma unroll
    for (int four = 0; four < kFours; ++four) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) total[four] = __fadd_rn(total[four], part[four][i]);
    }
  }
#pragma unroll
  for (int four = 0; four < kFours; ++four) scales[four] = ScaleOfParts(rows, total[four]);
}

struct NormInput {      // what the producer of the residual stream writes
  const float* weight;  // of the norm that comes next
  std::uint16_t* u;
  float* square_sums;  // (rows, SquareSums())
  int width;
  StepLayout layout;  // of u
};

// Values m .. m+3 of row b and their norm weights; lanes i ^ 1 and i ^ 2 hold the other quads of the same 16
// and, above kCore rows, the warp the 128 of a group. Every lane of the warp must call, with zeros where
// there is no value; `store` says whether this quad exists.
__device__ __forceinline__ void StoreNormInput(const NormInput& norm, int m, int b, float4 value,
                                               float4 weight, bool store) {
  float sum = SumOfQuad(MultiplyEach(value, value));
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 1));
  sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, 2));
  const int sum_width = norm.layout.row_blocks == 1 ? kSquareSumWidth : kSquareGroupWidth;
  if (sum_width == kSquareGroupWidth) {
#pragma unroll
    for (int mask = 4; mask < 32; mask *= 2) sum = __fadd_rn(sum, __shfl_xor_sync(~0u, sum, mask));
  }
  if (!store) return;
  StoreBf16(norm.u + norm.layout.Index(b, m), {__fmul_rn(value.x, weight.x), __fmul_rn(value.y, weight.y),
                                               __fmul_rn(value.z, weight.z), __fmul_rn(value.w, weight.w)});
  if (m % sum_width == 0)
    norm.square_sums[static_cast<std::int64_t>(b) * SquareSums(norm.width, sum_width) + m / sum_width] = sum;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_NORM_CUH_
