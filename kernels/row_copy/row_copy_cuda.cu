#include <cuda_runtime.h>

#include "kernels/base/slots.h"
#include "kernels/row_copy/row_copy_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 256;

__global__ void CopyRow(RowCopyArgs args) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t from = args.from_index != nullptr ? args.from_index[row] : row;
  const std::int64_t to = args.to_index != nullptr ? args.to_index[row] : row;
  if (from == kNoSlot || to == kNoSlot) return;
  const float* source = reinterpret_cast<const float*>(args.from.base + from * args.from.stride_bytes);
  float* target = reinterpret_cast<float*>(args.to.base + to * args.to.stride_bytes);
  for (std::int64_t i = threadIdx.x; i < args.width; i += kThreads) target[i] = source[i];
}

}  // namespace

gpu::Code CopyRowsCuda(void* stream, const RowCopyArgs& args) {
  CopyRow<<<static_cast<unsigned>(args.rows), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
