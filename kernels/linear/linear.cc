#include "kernels/linear/linear.h"

#include <cstring>
#include <string>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/linear/linear_cpu.h"
#include "kernels/linear/linear_gpu.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kMaxRows = std::int64_t{1} << 31;

absl::Status CheckArgs(const PackedLinear& weight, const LinearArgs& args) {
  if (args.rows < 0) return absl::InvalidArgumentError(absl::StrCat("linear: rows is ", args.rows));
  if (args.rows == 0) return absl::OkStatus();
  if (args.x == nullptr || args.y == nullptr) return absl::InvalidArgumentError("linear: x or y is null");
  if (args.rows > 1 && args.ldx < weight.cols()) {
    return absl::InvalidArgumentError(absl::StrCat("linear: ldx ", args.ldx, " < K ", weight.cols()));
  }
  if (args.rows > 1 && args.ldy < weight.rows()) {
    return absl::InvalidArgumentError(absl::StrCat("linear: ldy ", args.ldy, " < M ", weight.rows()));
  }
  return absl::OkStatus();
}

}  // namespace

absl::Status CheckWeightShape(std::string_view op, const LinearWeight& weight) {
  if (weight.data == nullptr)
    return absl::InvalidArgumentError(absl::StrCat(std::string(op), ": the weight has no data"));
  if (weight.rows < 1 || weight.rows > kMaxRows || weight.cols < 1 || weight.cols > kMaxLinearCols) {
    return absl::InvalidArgumentError(absl::StrCat(std::string(op), ": weight shape (", weight.rows, ", ",
                                                   weight.cols, ") is out of range"));
  }
  return absl::OkStatus();
}

absl::Status PackedLinear::PackForCpu(Device& device, const LinearWeight& weight, WeightPrecision precision) {
  layout_ = LinearKernelFor(device.cpu_path(), precision).layout;
  const std::size_t entry_bytes = layout_ == PanelLayout::kBf16Split ? 2 : 4;
  panel_bytes_ = PanelSteps(layout_, weight.cols) * kPanelChannels * entry_bytes;
  bias_offset_ = panels() * panel_bytes_;
  const std::size_t bias_bytes = has_bias_ ? panels() * kPanelChannels * sizeof(float) : 0;
  MAMBAD_ASSIGN_OR_RETURN(buffer_, device.Allocate(bias_offset_ + bias_bytes, "weights"));
  std::byte* data = buffer_.as<std::byte>();
  PackPanelsCpu(device, weight, layout_, panel_bytes_, data);
  if (has_bias_) {
    std::memset(data + bias_offset_, 0, bias_bytes);
    std::memcpy(data + bias_offset_, weight.bias, weight.rows * sizeof(float));
  }
  return absl::OkStatus();
}

absl::StatusOr<PackedLinear> PackLinear(Device& device, const LinearWeight& weight,
                                        WeightPrecision precision) {
  MAMBAD_RETURN_IF_ERROR(CheckWeightShape("linear", weight));
  PackedLinear packed;
  packed.rows_ = weight.rows;
  packed.cols_ = weight.cols;
  packed.has_bias_ = weight.bias != nullptr;
  MAMBAD_RETURN_IF_ERROR(device.is_gpu() ? packed.PackForGpu(device, weight, precision)
                                         : packed.PackForCpu(device, weight, precision));
  return packed;
}

absl::Status Linear(Stream& stream, const PackedLinear& weight, const LinearArgs& args) {
  MAMBAD_RETURN_IF_ERROR(CheckArgs(weight, args));
  if (args.rows == 0) return absl::OkStatus();
  return stream.on_gpu() ? LinearGpu(stream, weight, args) : LinearCpu(stream, weight, args);
}

std::size_t PackedLinear::read_bytes() const {
  if (layout_ != PanelLayout::kGpuCores) return bytes();
  return rows_ * cols_ * sizeof(std::uint16_t) + (has_bias_ ? rows_ * sizeof(float) : 0);
}

void UnpackLinearRow(const PackedLinear& weight, std::int64_t m, float* out) {
  MAMBAD_CHECK(m >= 0 && m < weight.rows());
  const std::byte* panel = weight.panel(m / kPanelChannels);
  const std::int64_t lane = m % kPanelChannels;
  const std::int64_t K = weight.cols();
  if (weight.layout() == PanelLayout::kF32) {
    const float* entries = reinterpret_cast<const float*>(panel) + lane;
    for (std::int64_t k = 0; k < K; ++k) out[k] = entries[k * kPanelChannels];
    return;
  }
  const std::uint16_t* halves = reinterpret_cast<const std::uint16_t*>(panel);
  if (weight.layout() == PanelLayout::kBf16Split) {
    const std::int64_t offset = lane < 8 ? 2 * lane : 2 * (lane - 8) + 1;
    for (std::int64_t k = 0; k < K; ++k) out[k] = Bf16ToFloat(halves[k * kPanelChannels + offset]);
    return;
  }
  for (std::int64_t k = 0; k < K; ++k) {
    out[k] = Bf16ToFloat(halves[(k / 2 * kPanelChannels + lane) * 2 + k % 2]);
  }
}

}  // namespace mambad::kernels
