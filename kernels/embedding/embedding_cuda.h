// Inside of the embedding op on a GPU.
#ifndef MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_
#define MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_

#include <cstdint>

namespace mambad::kernels {

enum class EmbeddingLayout : std::uint8_t {
  kF32Rows,           // (V, M) row major
  kBf16Rows,          // (V, M) row major
  kBf16CoreMatrices,  // a packed head: linear/gpu_layout.h
};

struct EmbeddingLaunch {
  const void* table = nullptr;  // 16-byte aligned
  EmbeddingLayout layout = EmbeddingLayout::kF32Rows;
  std::int64_t vocab = 0;                  // V
  std::int64_t cols = 0;                   // M
  const std::int32_t* ids = nullptr;       // in device memory
  const std::int32_t* id_index = nullptr;  // (rows): row r reads ids[id_index[r]]; null: ids[r]
  float* out = nullptr;                    // (rows, M) fp32, 16-byte aligned
  std::int64_t ldo = 0;                    // >= M
  std::int64_t rows = 0;
};

// out[r, 0..M) = table[id of row r, :], widened exactly. A row whose id_index is negative or whose id is not
// in the table writes nothing. `stream` is a cudaStream_t; the result a cudaError_t, 0 for success. With
// `dependent` the launch may start before the kernel before it in the stream has ended (it waits inside).
int LaunchEmbedding(void* stream, const EmbeddingLaunch& launch);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CUDA_H_
