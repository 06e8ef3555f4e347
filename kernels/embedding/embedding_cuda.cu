#include <cuda_runtime.h>

#include "kernels/device/hopper.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/linear/gpu_layout.h"

namespace mambad::kernels {
namespace {

constexpr int kThreads = 256;
constexpr int kGroup = 8;  // columns a thread copies at a time

struct Columns {
  float v[kGroup];
};

__device__ Columns WidenBf16(uint4 bits) {
  const unsigned words[4] = {bits.x, bits.y, bits.z, bits.w};
  Columns columns;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    columns.v[2 * i] = __uint_as_float(words[i] << 16);
    columns.v[2 * i + 1] = __uint_as_float(words[i] & 0xffff0000u);
  }
  return columns;
}

// Columns [c, c + kGroup) of row `id`; c is a multiple of kGroup.
__device__ Columns LoadColumns(const EmbeddingLaunch& launch, std::int64_t id, std::int64_t c) {
  if (launch.layout == EmbeddingLayout::kBf16CoreMatrices) {
    const int k_pad = static_cast<int>(RoundUp(launch.cols, kChunkK));
    const std::int64_t at = WeightIndex(static_cast<int>(id), static_cast<int>(c), k_pad);
    return WidenBf16(static_cast<const uint4*>(launch.table)[at / kGroup]);
  }
  const std::int64_t at = id * launch.cols + c;
  if (launch.layout == EmbeddingLayout::kBf16Rows && launch.cols % kGroup == 0) {
    return WidenBf16(static_cast<const uint4*>(launch.table)[at / kGroup]);
  }
  Columns columns = {};
#pragma unroll
  for (int i = 0; i < kGroup; ++i) {
    if (c + i >= launch.cols) break;
    columns.v[i] =
        launch.layout == EmbeddingLayout::kF32Rows
            ? static_cast<const float*>(launch.table)[at + i]
            : __uint_as_float(unsigned{static_cast<const unsigned short*>(launch.table)[at + i]} << 16);
  }
  return columns;
}

__global__ void __launch_bounds__(kThreads) EmbeddingKernel(EmbeddingLaunch launch) {
  AllowNextKernel();
  WaitForPreviousKernel();
  const std::int64_t r = blockIdx.x;
  const std::int64_t index = launch.id_index == nullptr ? r : launch.id_index[r];
  if (index < 0) return;
  const std::int64_t id = launch.ids[index];
  if (id < 0 || id >= launch.vocab) return;
  float* out = launch.out + r * launch.ldo;
  for (std::int64_t c = threadIdx.x * kGroup; c < launch.cols; c += kThreads * kGroup) {
    const Columns columns = LoadColumns(launch, id, c);
    if (c + kGroup <= launch.cols && launch.ldo % 4 == 0) {
      float4* four = reinterpret_cast<float4*>(out + c);
      four[0] = {columns.v[0], columns.v[1], columns.v[2], columns.v[3]};
      four[1] = {columns.v[4], columns.v[5], columns.v[6], columns.v[7]};
    } else {
#pragma unroll
      for (int i = 0; i < kGroup; ++i) {
        if (c + i < launch.cols) out[c + i] = columns.v[i];
      }
    }
  }
}

}  // namespace

int LaunchEmbedding(void* stream, const EmbeddingLaunch& launch) {
  if (launch.rows == 0) return cudaSuccess;
  return LaunchKernel(
      static_cast<cudaStream_t>(stream), EmbeddingKernel,
      {.grid = dim3(static_cast<unsigned>(launch.rows)), .threads = kThreads, .overlaps = false}, launch);
}

}  // namespace mambad::kernels
