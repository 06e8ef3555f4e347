#include <cuda_runtime.h>

#include "kernels/token_feed/token_feed_cuda.h"
#include "kernels/token_feed/token_feed_row.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 128;

__global__ void __launch_bounds__(kThreads) FeedTokensKernel(const TokenFeedArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row < args.rows) FeedRow(args, row);
}

}  // namespace

gpu::Code FeedTokensCuda(void* stream, const TokenFeedArgs& args) {
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  FeedTokensKernel<<<blocks, kThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
