// The embedding table: token id -> row of M floats.
//
// Two storages behind one lookup. Untied models keep their own row-major table (f32 or bf16 as the
// precision says). Tied models read the row out of the packed head instead: the table is the largest weight
// of a small model, and one row per sequence and step is too little traffic to deserve a second copy.
#ifndef MAMBAD_KERNELS_EMBEDDING_EMBEDDING_H_
#define MAMBAD_KERNELS_EMBEDDING_EMBEDDING_H_

#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/stream.h"
#include "kernels/linear/linear.h"

namespace mambad::kernels {

// Immutable; any number of streams may use it.
class Embedding {
 public:
  Embedding() = default;

  // A copy of `table`, (V, M) row major, without bias. Errors as PackLinear.
  static absl::StatusOr<Embedding> Create(Device& device, const LinearWeight& table,
                                          WeightPrecision precision);
  // The rows of `head`, which must outlive this and stay where it is.
  static Embedding Tied(const PackedLinear& head);

  std::int64_t rows() const { return rows_; }  // V
  std::int64_t cols() const { return cols_; }  // M
  // Bytes of its own; 0 when tied.
  std::size_t bytes() const { return buffer_.bytes(); }
  // Bytes that one lookup reads.
  std::size_t row_bytes() const { return cols_ * SizeOf(dtype_); }

  DType dtype() const { return dtype_; }
  const void* table() const { return buffer_.data(); }  // null when tied
  const PackedLinear* head() const { return head_; }    // null unless tied

 private:
  DeviceBuffer buffer_;
  const PackedLinear* head_ = nullptr;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  DType dtype_ = DType::kF32;
};

struct EmbeddingArgs {
  const std::uint32_t* ids = nullptr;  // (rows), each < V
  float* out = nullptr;                // (rows, M) f32
  std::int64_t ldo = 0;                // >= M
  std::int64_t rows = 0;               // B or T, 0 allowed
};

// out[r, 0..M) = table[ids[r], :], widened exactly. InvalidArgument, with nothing written, when an id is not
// in the table or the arguments contradict each other.
absl::Status EmbeddingLookup(Stream& stream, const Embedding& embedding, const EmbeddingArgs& args);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_EMBEDDING_EMBEDDING_H_
