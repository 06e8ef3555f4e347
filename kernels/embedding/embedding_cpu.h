// Inside of the embedding op on the CPU.
#ifndef MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CPU_H_
#define MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CPU_H_

#include "absl/status/status.h"
#include "kernels/embedding/embedding.h"

namespace mambad::kernels {

// out = table as `dtype` (kF32 or kBf16), row major. Uses the device's pool.
void ConvertTableCpu(Device& device, const LinearWeight& table, DType dtype, void* out);

absl::Status EmbeddingLookupCpu(Stream& stream, const Embedding& embedding, const EmbeddingArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_EMBEDDING_EMBEDDING_CPU_H_
