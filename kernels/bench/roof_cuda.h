// The read roof of a GPU.
#ifndef MAMBAD_KERNELS_BENCH_ROOF_CUDA_H_
#define MAMBAD_KERNELS_BENCH_ROOF_CUDA_H_

#include <cstddef>

#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

// The best of a few passes over `bytes` at `data`, in milliseconds. `sink`: 4 bytes of device memory.
gpu::Code TimeReadCuda(void* stream, const void* data, std::size_t bytes, void* sink, float* milliseconds);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_ROOF_CUDA_H_
