#include "kernels/embedding/embedding.h"

#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/embedding/embedding_cpu.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_gpu.h"

namespace mambad::kernels {
namespace {

absl::Status CheckArgs(const Embedding& embedding, const EmbeddingArgs& args) {
  if (args.rows < 0) return absl::InvalidArgumentError(absl::StrCat("embedding: rows is ", args.rows));
  if (args.rows == 0) return absl::OkStatus();
  if (args.ids == nullptr || args.out == nullptr) {
    return absl::InvalidArgumentError("embedding: ids or out is null");
  }
  if (args.rows > 1 && args.ldo < embedding.cols()) {
    return absl::InvalidArgumentError(absl::StrCat("embedding: ldo ", args.ldo, " < M ", embedding.cols()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<Embedding> Embedding::Create(Device& device, const LinearWeight& table,
                                            WeightPrecision precision) {
  MAMBAD_RETURN_IF_ERROR(CheckWeightShape("embedding", table));
  Embedding embedding;
  embedding.rows_ = table.rows;
  embedding.cols_ = table.cols;
  embedding.dtype_ = precision == WeightPrecision::kF32 ? DType::kF32 : DType::kBf16;
  if (device.is_gpu()) {
    const bool cores = precision == WeightPrecision::kBf16;
    const std::int64_t elements = cores ? PackedElements(table.rows, table.cols) : table.rows * table.cols;
    MAMBAD_ASSIGN_OR_RETURN(embedding.buffer_,
                            device.Allocate(elements * SizeOf(embedding.dtype_), "weights", Fill::kZero));
    MAMBAD_RETURN_IF_ERROR(UploadRows(device, table, cores, embedding.buffer_.data()));
    return embedding;
  }
  const std::size_t count = static_cast<std::size_t>(table.rows) * table.cols;
  MAMBAD_ASSIGN_OR_RETURN(embedding.buffer_, device.Allocate(count * SizeOf(embedding.dtype_), "weights"));
  ConvertTableCpu(device, table, embedding.dtype_, embedding.buffer_.data());
  return embedding;
}

Embedding Embedding::Tied(const PackedLinear& head) {
  Embedding embedding;
  embedding.head_ = &head;
  embedding.rows_ = head.rows();
  embedding.cols_ = head.cols();
  embedding.dtype_ = head.precision() == WeightPrecision::kF32 ? DType::kF32 : DType::kBf16;
  return embedding;
}

absl::Status EmbeddingLookup(Stream& stream, const Embedding& embedding, const EmbeddingArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckArgs(embedding, args));
  if (args.rows == 0) return absl::OkStatus();
  if (!stream.on_gpu()) return EmbeddingLookupCpu(stream, embedding, args);
  const EmbeddingLaunch launch = {
      .table = embedding.head() != nullptr ? embedding.head()->data() : embedding.table(),
      .layout =
          embedding.dtype() == DType::kBf16 ? EmbeddingLayout::kBf16CoreMatrices : EmbeddingLayout::kF32Rows,
      .vocab = embedding.rows(),
      .cols = embedding.cols(),
      .ids = reinterpret_cast<const std::int32_t*>(args.ids),
      .out = args.out,
      .ldo = args.ldo,
      .rows = args.rows};
  return MAMBAD_ON_GPU(stream, "embedding", LaunchEmbedding(stream.handle(), launch));
}

}  // namespace mambad::kernels
