#include "kernels/mamba_layer/packed_weight.h"

namespace mambad::kernels {
namespace {

__global__ void PackKernel(const std::uint16_t* from, int rows, int cols, int k_pad, std::uint16_t* to) {
  const int row = blockIdx.x;
  for (int k = threadIdx.x; k < k_pad; k += blockDim.x) {
    const bool inside = row < rows && k < cols;
    to[WeightIndex(row, k, k_pad)] = inside ? from[static_cast<std::int64_t>(row) * cols + k] : 0;
  }
}

}  // namespace

const char* PackWeight(const std::uint16_t* from, std::int32_t rows, std::int32_t cols, std::uint16_t* to,
                       void* stream) {
  const int k_pad = static_cast<int>(RoundUp(cols, kChunkK));
  const auto grid = static_cast<unsigned>(RoundUp(rows, kTileRows));
  PackKernel<<<grid, 256, 0, static_cast<cudaStream_t>(stream)>>>(from, rows, cols, k_pad, to);
  const cudaError_t error = cudaGetLastError();
  return error == cudaSuccess ? nullptr : cudaGetErrorString(error);
}

}  // namespace mambad::kernels
