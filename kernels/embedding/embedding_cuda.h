// The embedding lookup on a GPU. Arguments were checked; ids are in device memory, each below V. Enqueues and returns.
#ifndef MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_
#define MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_

#include <cstdint>

#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

struct GpuLookupArgs {
  const void* table = nullptr;  // (V, M) as linear/gpu_layout.h says
  bool bf16 = false;
  const std::uint32_t* ids = nullptr;  // (rows)
  float* out = nullptr;                // (rows, M)
  std::int64_t ldo = 0;
  std::int64_t rows = 0;
  std::int64_t M = 0;
};

gpu::Code EmbeddingLookupCuda(void* stream, const GpuLookupArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_
