// The arguments of row_copy, apart from the op so that CUDA files need not read Abseil. Open row_copy.h
// first.
#ifndef MAMBAD_KERNELS_ROW_COPY_ROW_COPY_ARGS_H_
#define MAMBAD_KERNELS_ROW_COPY_ROW_COPY_ARGS_H_

#include <cstddef>
#include <cstdint>

namespace mambad::kernels {

// Rows that lie anywhere at a fixed distance: row i at base + i * stride_bytes.
struct RowTable {
  std::byte* base = nullptr;
  std::int64_t stride_bytes = 0;  // a multiple of 4
};

struct RowCopyArgs {
  RowTable from;
  const std::int32_t* from_index = nullptr;  // (rows); null: row i
  RowTable to;
  const std::int32_t* to_index = nullptr;  // (rows), distinct; null: row i
  std::int64_t rows = 0;
  std::int64_t width = 0;  // floats of a row
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_ROW_COPY_ROW_COPY_ARGS_H_
