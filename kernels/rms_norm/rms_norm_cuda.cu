#include <cuda_runtime.h>

#include "kernels/math/tree_sum.h"
#include "kernels/rms_norm/rms_norm_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kWarpsPerBlock = 8;

// A warp a row; lane j keeps partial sum j of the tree.
static_assert(kSumLanes == 32);

__device__ float WarpTreeSum(F32x1 part) {
  for (int half = kSumLanes / 2; half > 0; half /= 2) {
    part = part + F32x1{__shfl_down_sync(0xffffffffu, part.v, half)};
  }
  return __shfl_sync(0xffffffffu, part.v, 0);
}

__global__ void RmsNormRows(RmsNormArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kWarpsPerBlock + threadIdx.y;
  if (row >= args.rows) return;
  const float* x = args.x + row * args.x_stride;
  float* y = args.y + row * args.y_stride;
  F32x1 part = {0.0f};
  for (std::int64_t i = threadIdx.x; i < args.width; i += kSumLanes) {
    const F32x1 v = {x[i]};
    part = part + v * v;
  }
  const float mean = __fdiv_rn(WarpTreeSum(part), static_cast<float>(args.width));
  const F32x1 scale = {__fdiv_rn(1.0f, __fsqrt_rn(__fadd_rn(mean, args.eps)))};
  for (std::int64_t i = threadIdx.x; i < args.width; i += kSumLanes) {
    const F32x1 weight = {args.weight != nullptr ? args.weight[i] : 1.0f};
    y[i] = (F32x1{x[i]} * scale * weight).v;
  }
}

}  // namespace

gpu::Code RmsNormCuda(void* stream, const RmsNormArgs& args) {
  const dim3 block(kSumLanes, kWarpsPerBlock);
  const auto grid = static_cast<unsigned>((args.rows + kWarpsPerBlock - 1) / kWarpsPerBlock);
  RmsNormRows<<<grid, block, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
