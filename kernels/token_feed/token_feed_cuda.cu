#include <cuda_runtime.h>

#include "kernels/device/hopper.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/token_feed/token_feed_cuda.h"
#include "kernels/token_feed/token_feed_row.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 128;

// What the host wrote crosses a slow bus while the kernel before, which draws, still runs.
__global__ void __launch_bounds__(kThreads) FeedTokensKernel(const TokenFeedArgs args) {
  const std::int64_t row = std::int64_t{blockIdx.x} * kThreads + threadIdx.x;
  if (row >= args.rows) return;
  const FedRow fed(args, row);
  WaitForPreviousKernel();
  fed.Complete(args, row, fed.drawn() ? __ldcg(args.drawn + fed.slot) : 0);
}

}  // namespace

gpu::Code FeedTokensCuda(void* stream, const TokenFeedArgs& args) {
  const auto blocks = static_cast<unsigned>((args.rows + kThreads - 1) / kThreads);
  return LaunchKernel(static_cast<cudaStream_t>(stream), FeedTokensKernel,
                      {.grid = dim3(blocks), .threads = kThreads}, args);
}

}  // namespace mambad::kernels
