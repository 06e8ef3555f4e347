// Inside of sampling on the CPU: the passes over a row of logits that one instruction set's file offers.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_CPU_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_CPU_H_

#include <cstdint>

#include "kernels/device/cpu_path.h"

namespace mambad::kernels {

// Rows are cut at multiples of this; per block a pass reports one number.
inline constexpr std::int64_t kRowBlock = 256;

constexpr std::int64_t RowBlocks(std::int64_t vocab) { return (vocab + kRowBlock - 1) / kRowBlock; }

struct RowKernels {
  // Writes each block's largest value to block_max (may be null) and returns whether the row is finite. With
  // a NaN in the row the maxima are unspecified.
  bool (*max)(const float* row, std::int64_t vocab, float* block_max, float* max);

  // The sum of w = exp((row - max) / temperature): per block the tree of kernels/math/tree_sum.h, blocks in
  // ascending order in double. Writes w and the block sums where the pointers are not null. -inf weighs 0.
  double (*weigh)(const float* row, std::int64_t vocab, float max, float temperature, float* w,
                  float* block_sums);
};

RowKernels RowKernelsPortable();
RowKernels RowKernelsAvx2();
RowKernels RowKernelsAvx512();

RowKernels RowKernelsFor(CpuPath path);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_CPU_H_
