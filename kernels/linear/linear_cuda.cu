#include <cuda_runtime.h>

#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_cuda.h"

namespace mambad::kernels {
namespace {

constexpr int kPackThreads = 256;

__device__ float LoadElement(const void* source, DType dtype, std::int64_t index) {
  switch (dtype) {
    case DType::kF32:
      return static_cast<const float*>(source)[index];
    case DType::kBf16:
      return Bf16ToFloat(static_cast<const std::uint16_t*>(source)[index]);
    case DType::kF16:
      return F16ToFloat(static_cast<const std::uint16_t*>(source)[index]);
  }
  return 0.0f;
}

__global__ void PackRow(PackRowsArgs args) {
  const std::int64_t row = blockIdx.x;
  const std::int64_t m = args.first + row;
  const int padded = static_cast<int>(RoundUp(args.K, kChunkK));
  for (std::int64_t k = threadIdx.x; k < args.K; k += kPackThreads) {
    const float value = LoadElement(args.source, args.dtype, row * args.K + k);
    if (args.bf16) {
      static_cast<std::uint16_t*>(
          args.packed)[WeightIndex(static_cast<int>(m), static_cast<int>(k), padded)] = FloatToBf16(value);
    } else {
      static_cast<float*>(args.packed)[m * args.K + k] = value;
    }
  }
}

// The general product: a block computes kRowsPerThread * 16 rows by 64 channels, 16 k at a time.
constexpr int kSide = 16;
constexpr int kChannelsPerThread = 4;
constexpr int kTileChannels = kSide * kChannelsPerThread;
constexpr int kTileK = 16;

__device__ float WeightAt(const GpuWeight& weight, std::int64_t m, std::int64_t k) {
  if (m >= weight.M || k >= weight.K) return 0.0f;
  if (!weight.bf16) return static_cast<const float*>(weight.data)[m * weight.K + k];
  const auto* cores = static_cast<const std::uint16_t*>(weight.data);
  const int k_pad = static_cast<int>(RoundUp(weight.K, kChunkK));
  return Bf16ToFloat(cores[WeightIndex(static_cast<int>(m), static_cast<int>(k), k_pad)]);
}

template <int kRowsPerThread>
__global__ void __launch_bounds__(kSide* kSide) Product(GpuProductArgs args) {
  constexpr int kTileRows = kSide * kRowsPerThread;
  __shared__ float x[kTileK][kTileRows + 1];
  __shared__ float w[kTileK][kTileChannels + 1];
  const GpuWeight& weight = args.weight;
  const std::int64_t first_row = std::int64_t{blockIdx.x} * kTileRows;
  const std::int64_t first_channel = std::int64_t{blockIdx.y} * kTileChannels;
  const int thread = threadIdx.y * kSide + threadIdx.x;
  float sum[kRowsPerThread][kChannelsPerThread] = {};
  for (std::int64_t k0 = 0; k0 < weight.K; k0 += kTileK) {
    for (int i = thread; i < kTileRows * kTileK; i += kSide * kSide) {
      const std::int64_t row = first_row + i / kTileK;
      const std::int64_t k = k0 + i % kTileK;
      const float value = row < args.rows && k < weight.K ? args.x[row * args.ldx + k] : 0.0f;
      x[i % kTileK][i / kTileK] = weight.bf16 ? RoundToBf16(value) : value;
    }
    for (int i = thread; i < kTileChannels * kTileK; i += kSide * kSide)
      w[i % kTileK][i / kTileK] = WeightAt(weight, first_channel + i / kTileK, k0 + i % kTileK);
    __syncthreads();
    const int steps = weight.K - k0 < kTileK ? static_cast<int>(weight.K - k0) : kTileK;
    for (int k = 0; k < steps; ++k) {
#pragma unroll
      for (int r = 0; r < kRowsPerThread; ++r) {
#pragma unroll
        for (int c = 0; c < kChannelsPerThread; ++c)
          sum[r][c] = __fmaf_rn(x[k][threadIdx.y + r * kSide], w[k][threadIdx.x + c * kSide], sum[r][c]);
      }
    }
    __syncthreads();
  }
#pragma unroll
  for (int r = 0; r < kRowsPerThread; ++r) {
#pragma unroll
    for (int c = 0; c < kChannelsPerThread; ++c) {
      const std::int64_t row = first_row + threadIdx.y + r * kSide;
      const std::int64_t m = first_channel + threadIdx.x + c * kSide;
      if (row >= args.rows || m >= weight.M) continue;
      float value = sum[r][c];
      if (weight.bias != nullptr) value = __fadd_rn(value, weight.bias[m]);
      float* y = args.y + row * args.ldy + m;
      *y = args.accumulate ? __fadd_rn(*y, value) : value;
    }
  }
}

}  // namespace

gpu::Code PackRowsCuda(void* stream, const PackRowsArgs& args) {
  if (args.rows == 0) return cudaSuccess;
  PackRow<<<static_cast<unsigned>(args.rows), kPackThreads, 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

gpu::Code GeneralProductCuda(void* stream, const GpuProductArgs& args) {
  constexpr int kFew = 1, kMany = 4;
  const bool few = args.rows <= kSide;
  const std::int64_t tile_rows = kSide * (few ? kFew : kMany);
  const dim3 grid(static_cast<unsigned>((args.rows + tile_rows - 1) / tile_rows),
                  static_cast<unsigned>((args.weight.M + kTileChannels - 1) / kTileChannels));
  (few ? &Product<kFew>
       : &Product<kMany>)<<<grid, dim3(kSide, kSide), 0, static_cast<cudaStream_t>(stream)>>>(args);
  return cudaGetLastError();
}

}  // namespace mambad::kernels
