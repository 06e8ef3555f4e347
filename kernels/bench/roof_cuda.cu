#include <cuda_runtime.h>

#include "kernels/bench/roof_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 512;
constexpr int kBlocksPerMultiprocessor = 4;
constexpr int kUnroll = 8;
constexpr int kPasses = 12;

__global__ void Read(const uint4* data, std::size_t count, unsigned* sink) {
  const std::size_t stride = std::size_t{gridDim.x} * kThreads;
  unsigned digest = 0;
  std::size_t i = std::size_t{blockIdx.x} * kThreads + threadIdx.x;
  for (; i + (kUnroll - 1) * stride < count; i += kUnroll * stride) {
    uint4 words[kUnroll];
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) words[u] = __ldcs(data + i + u * stride);
#pragma unroll
    for (int u = 0; u < kUnroll; ++u) digest ^= words[u].x ^ words[u].y ^ words[u].z ^ words[u].w;
  }
  for (; i < count; i += stride) digest ^= data[i].x;
  // Never true for the zeros that are read, but the compiler does not know.
  if (digest == 0x9e3779b9u) *sink = digest;
}

}  // namespace

gpu::Code TimeReadCuda(void* stream, const void* data, std::size_t bytes, void* sink, float* milliseconds) {
  const auto queue = static_cast<cudaStream_t>(stream);
  int device = 0, multiprocessors = 0;
  cudaError_t error = cudaGetDevice(&device);
  if (error == cudaSuccess)
    error = cudaDeviceGetAttribute(&multiprocessors, cudaDevAttrMultiProcessorCount, device);
  cudaEvent_t events[kPasses + 1] = {};
  for (cudaEvent_t& event : events) {
    if (error == cudaSuccess) error = cudaEventCreate(&event);
  }
  for (int pass = 0; pass <= kPasses && error == cudaSuccess; ++pass) {
    error = cudaEventRecord(events[pass], queue);
    if (pass == kPasses || error != cudaSuccess) break;
    Read<<<multiprocessors * kBlocksPerMultiprocessor, kThreads, 0, queue>>>(
        static_cast<const uint4*>(data), bytes / sizeof(uint4), static_cast<unsigned*>(sink));
    error = cudaGetLastError();
  }
  if (error == cudaSuccess) error = cudaStreamSynchronize(queue);
  *milliseconds = 0;
  for (int pass = 0; pass < kPasses && error == cudaSuccess; ++pass) {
    float elapsed = 0;
    error = cudaEventElapsedTime(&elapsed, events[pass], events[pass + 1]);
    if (pass == 0 || elapsed < *milliseconds) *milliseconds = elapsed;
  }
  for (cudaEvent_t event : events) {
    if (event != nullptr) (void)cudaEventDestroy(event);
  }
  return error;
}

}  // namespace mambad::kernels
