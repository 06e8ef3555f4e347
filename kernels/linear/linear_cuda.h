// The linear op on a GPU: packing, and the general product for any shape on any card. Arguments were checked.
// They enqueue and return.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_CUDA_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_CUDA_H_

#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

// Rows [first, first + rows) of a weight, row major in device memory, into a packed weight of (M, K).
struct PackRowsArgs {
  const void* source = nullptr;  // (rows, K)
  DType dtype = DType::kF32;
  std::int64_t first = 0;
  std::int64_t rows = 0;
  std::int64_t K = 0;
  void* packed = nullptr;  // gpu_layout.h
  bool bf16 = false;       // which of the two layouts
};

gpu::Code PackRowsCuda(void* stream, const PackRowsArgs& args);

// A weight as packed by PackRowsCuda.
struct GpuWeight {
  const void* data = nullptr;
  const float* bias = nullptr;  // (M), or null
  std::int64_t M = 0;
  std::int64_t K = 0;
  bool bf16 = false;
};

struct GpuProductArgs {
  GpuWeight weight;
  const float* x = nullptr;  // (rows, K)
  std::int64_t ldx = 0;
  float* y = nullptr;  // (rows, M)
  std::int64_t ldy = 0;
  std::int64_t rows = 0;
  bool accumulate = false;
};

// Each output is one thread's sum with k ascending and one rounding a step (fused), whatever the rows.
gpu::Code GeneralProductCuda(void* stream, const GpuProductArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_CUDA_H_
