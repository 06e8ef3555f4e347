#include "kernels/embedding/embedding_cpu.h"

#include <cstring>

#include "absl/strings/str_cat.h"

namespace mambad::kernels {
namespace {

// Fewer floats than this are copied faster by the caller alone than by a woken pool.
constexpr std::int64_t kSerialElements = 16 << 10;

void CopyRow(const Embedding& embedding, std::uint32_t id, float* out) {
  const std::int64_t M = embedding.cols();
  if (embedding.head() != nullptr) {
    UnpackLinearRow(*embedding.head(), id, out);
  } else if (embedding.dtype() == DType::kF32) {
    std::memcpy(out, static_cast<const float*>(embedding.table()) + id * M, M * sizeof(float));
  } else {
    const std::uint16_t* row = static_cast<const std::uint16_t*>(embedding.table()) + id * M;
    for (std::int64_t i = 0; i < M; ++i) out[i] = Bf16ToFloat(row[i]);
  }
}

}  // namespace

void ConvertTableCpu(Device& device, const LinearWeight& table, DType dtype, void* out) {
  device.pool().Run([&](int worker, int workers) {
    const Range rows = Slice(table.rows, 1, worker, workers);
    const std::int64_t end = rows.end * table.cols;
    for (std::int64_t i = rows.begin * table.cols; i < end; ++i) {
      const float value = LoadAsFloat(table.data, table.dtype, i);
      if (dtype == DType::kF32) {
        static_cast<float*>(out)[i] = value;
      } else {
        static_cast<std::uint16_t*>(out)[i] = FloatToBf16(value);
      }
    }
  });
}

absl::Status EmbeddingLookupCpu(Stream& stream, const Embedding& embedding, const EmbeddingArgs& args) {
  for (std::int64_t r = 0; r < args.rows; ++r) {
    if (args.ids[r] >= embedding.rows()) {
      return absl::InvalidArgumentError(
          absl::StrCat("embedding: ids[", r, "] is not in the table of ", embedding.rows(), " rows"));
    }
  }
  const auto copy = [&](Range rows) {
    for (std::int64_t r = rows.begin; r < rows.end; ++r) {
      CopyRow(embedding, args.ids[r], args.out + r * args.ldo);
    }
  };
  if (args.rows * embedding.cols() <= kSerialElements) {
    copy({0, args.rows});
  } else {
    stream.pool().Run([&](int worker, int workers) { copy(Slice(args.rows, 1, worker, workers)); });
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
