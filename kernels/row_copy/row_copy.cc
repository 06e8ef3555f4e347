#include "kernels/row_copy/row_copy.h"

#include <cstring>

#include "kernels/base/slots.h"
#include "kernels/device/gpu_call.h"
#include "kernels/row_copy/row_copy_cuda.h"

namespace mambad::kernels {

absl::Status CopyRows(Stream& stream, const RowCopyArgs& args) {
  if (args.rows < 0 || args.width < 0)
    return absl::InvalidArgumentError("row_copy: rows or width is negative");
  if (args.rows == 0 || args.width == 0) return absl::OkStatus();
  if (args.from.base == nullptr || args.to.base == nullptr)
    return absl::InvalidArgumentError("row_copy: a table is null");
  if (stream.on_gpu()) return MAMBAD_ON_GPU(stream, "row_copy", CopyRowsCuda(stream.handle(), args));
  for (std::int64_t i = 0; i < args.rows; ++i) {
    const std::int64_t from = args.from_index != nullptr ? args.from_index[i] : i;
    const std::int64_t to = args.to_index != nullptr ? args.to_index[i] : i;
    if (from == kNoSlot || to == kNoSlot) continue;
    std::memcpy(args.to.base + to * args.to.stride_bytes, args.from.base + from * args.from.stride_bytes,
                args.width * sizeof(float));
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
