#include "kernels/linear/linear_gpu.h"

#include <algorithm>

#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_call.h"
#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_cuda.h"

namespace mambad::kernels {
namespace {

// Large enough for the bus, small beside any weight that needs more than one piece.
constexpr std::int64_t kStagingBytes = std::int64_t{32} << 20;

}  // namespace

absl::Status UploadRows(Device& device, const LinearWeight& table, bool cores, void* packed) {
  const auto row_bytes = static_cast<std::int64_t>(table.cols * SizeOf(table.dtype));
  const std::int64_t rows_at_once = std::clamp<std::int64_t>(kStagingBytes / row_bytes, 1, table.rows);
  MAMBAD_ASSIGN_OR_RETURN(DeviceBuffer staging, device.Allocate(rows_at_once * row_bytes, "staging"));
  MAMBAD_ASSIGN_OR_RETURN(const std::unique_ptr<Stream> stream, Stream::Create(device));
  for (std::int64_t row = 0; row < table.rows; row += rows_at_once) {
    const std::int64_t rows = std::min(rows_at_once, table.rows - row);
    MAMBAD_RETURN_IF_ERROR(CopyToDevice(*stream, staging.data(),
                                        static_cast<const std::byte*>(table.data) + row * row_bytes,
                                        rows * row_bytes));
    MAMBAD_RETURN_IF_ERROR(MAMBAD_ON_GPU(*stream, "packing a weight",
                                         PackRowsCuda(stream->handle(), {.source = staging.data(),
                                                                         .dtype = table.dtype,
                                                                         .first = row,
                                                                         .rows = rows,
                                                                         .K = table.cols,
                                                                         .packed = packed,
                                                                         .bf16 = cores})));
  }
  return stream->Synchronize();
}

absl::Status PackedLinear::PackForGpu(Device& device, const LinearWeight& weight, WeightPrecision precision) {
  const bool cores = precision == WeightPrecision::kBf16;
  layout_ = cores ? PanelLayout::kGpuCores : PanelLayout::kGpuRows;
  bias_offset_ = cores ? PackedElements(weight.rows, weight.cols) * sizeof(std::uint16_t)
                       : weight.rows * weight.cols * sizeof(float);
  const std::size_t bias_bytes = has_bias_ ? weight.rows * sizeof(float) : 0;
  MAMBAD_ASSIGN_OR_RETURN(buffer_, device.Allocate(bias_offset_ + bias_bytes, "weights", Fill::kZero));
  MAMBAD_RETURN_IF_ERROR(UploadRows(device, weight, cores, buffer_.data()));
  if (!has_bias_) return absl::OkStatus();
  const LinearWeight bias = {weight.bias, DType::kF32, weight.rows, 1, nullptr};
  return UploadRows(device, bias, false, buffer_.as<std::byte>() + bias_offset_);
}

absl::Status LinearGpu(Stream& stream, const PackedLinear& weight, const LinearArgs& args) {
  const GpuWeight packed = {.data = weight.data(),
                            .bias = weight.bias(),
                            .M = weight.rows(),
                            .K = weight.cols(),
                            .bf16 = weight.precision() == WeightPrecision::kBf16};
  return MAMBAD_ON_GPU(stream, "linear",
                       GeneralProductCuda(stream.handle(), {.weight = packed,
                                                            .x = args.x,
                                                            .ldx = args.ldx,
                                                            .y = args.y,
                                                            .ldy = args.ldy,
                                                            .rows = args.rows,
                                                            .accumulate = args.accumulate}));
}

}  // namespace mambad::kernels
