#include <cuda_runtime.h>

#include "kernels/base/dtype.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/linear/gpu_layout.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 128;

__global__ void LookUpRow(GpuLookupArgs args) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t id = args.ids[row];
  float* out = args.out + row * args.ldo;
  const std::int64_t padded = PaddedCoreCols(args.M);
  for (std::int64_t i = threadIdx.x; i < args.M; i += kThreads) {
    out[i] = args.bf16 ? Bf16ToFloat(static_cast<const std::uint16_t*>(args.table)[CoreIndex(id, i, padded)])
                       : static_cast<const float*>(args.table)[id * args.M + i];
  }
}

}  // namespace

gpu::Code EmbeddingLookupCuda(void* stream, const GpuLookupArgs& args) {
  LookUpRow<<<static_cast<unsigned>(args.rows), kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
