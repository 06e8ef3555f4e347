#include <cuda_runtime.h>

#include "kernels/random_fill/random_fill_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void __launch_bounds__(kThreads) RandomFillKernel(const RandomFillArgs args) {
  FillRandomBlock(args, std::int64_t{blockIdx.x} * kThreads + threadIdx.x);
}

}  // namespace

gpu::Code RandomFillCuda(void* stream, const RandomFillArgs& args) {
  const std::int64_t per_cta = kThreads * kRandomFillBlock;
  const auto ctas = static_cast<unsigned>((args.elements + per_cta - 1) / per_cta);
  RandomFillKernel<<<ctas, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
