// y[r,m] = sum_k x[r,k] W[m,k] (+ bias[m]) (+ y[r,m]): every matrix product of the model.
//
// A weight is packed once at load, for the instruction set of its device. Numerics:
//   f32   weights and x as they are; bf16   weights and x rounded to bf16 (nearest even), products and sums
//   in fp32. The order is fixed: the sum starts at 0 and takes k in ascending order in one accumulator per
//   output, then bias is added, then (accumulate) the sum is added to the old y.
// So the bits of y[r,:] depend on x[r,:], the weight and the CPU path only: not on the number of rows, the
// neighbours, the number of threads or the size of a tile (promise P2).
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_H_
#define MAMBAD_KERNELS_LINEAR_LINEAR_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "kernels/device/stream.h"
#include "kernels/linear/panel_layout.h"

namespace mambad::kernels {

enum class WeightPrecision : std::uint8_t { kF32, kBf16 };

// A weight in host memory, or `data` in that of the GPU which packs it. `data` is (rows, cols) row major; a
// row range of a larger matrix is a pointer to its first row.
struct LinearWeight {
  const void* data = nullptr;
  DType dtype = DType::kF32;
  std::int64_t rows = 0;        // M, outputs: 1 to 2^31
  std::int64_t cols = 0;        // K, inputs: 1 to kMaxLinearCols
  const float* bias = nullptr;  // (rows) or null
};

inline constexpr std::int64_t kMaxLinearCols = std::int64_t{1} << 20;

// InvalidArgument, beginning with `op`, when the weight has no data or a shape out of range.
absl::Status CheckWeightShape(std::string_view op, const LinearWeight& weight);

// A weight on its device. Immutable after PackLinear, so any number of streams may use it.
class PackedLinear {
 public:
  PackedLinear() = default;

  std::int64_t rows() const { return rows_; }  // M
  std::int64_t cols() const { return cols_; }  // K
  WeightPrecision precision() const {
    return layout_ == PanelLayout::kF32 || layout_ == PanelLayout::kGpuRows ? WeightPrecision::kF32
                                                                            : WeightPrecision::kBf16;
  }
  // What the weight occupies, and what one use of it reads: a GPU skips the padding.
  std::size_t bytes() const { return buffer_.bytes(); }
  std::size_t read_bytes() const;

  PanelLayout layout() const { return layout_; }
  const void* data() const { return buffer_.data(); }

  // On the CPU.
  std::int64_t panels() const { return (rows_ + kPanelChannels - 1) / kPanelChannels; }
  std::size_t panel_bytes() const { return panel_bytes_; }
  const std::byte* panel(std::int64_t index) const { return buffer_.as<std::byte>() + index * panel_bytes_; }
  // On the CPU (panels * kPanelChannels) f32, zero past M; on a GPU (M); null without bias.
  const float* bias() const {
    return has_bias_ ? reinterpret_cast<const float*>(buffer_.as<std::byte>() + bias_offset_) : nullptr;
  }

 private:
  friend absl::StatusOr<PackedLinear> PackLinear(Device& device, const LinearWeight& weight,
                                                 WeightPrecision precision);
  absl::Status PackForCpu(Device& device, const LinearWeight& weight, WeightPrecision precision);
  absl::Status PackForGpu(Device& device, const LinearWeight& weight, WeightPrecision precision);
  DeviceBuffer buffer_;
  std::int64_t rows_ = 0;
  std::int64_t cols_ = 0;
  std::size_t panel_bytes_ = 0;
  std::size_t bias_offset_ = 0;
  PanelLayout layout_ = PanelLayout::kF32;
  bool has_bias_ = false;
};

// InvalidArgument for a shape out of range; ResourceExhausted ("weights") when it does not fit.
// Uses the device's pool: no op may run at the same time.
absl::StatusOr<PackedLinear> PackLinear(Device& device, const LinearWeight& weight,
                                        WeightPrecision precision);

struct LinearArgs {
  const float* x = nullptr;  // (rows, K) f32
  std::int64_t ldx = 0;      // >= K
  float* y = nullptr;        // (rows, M) f32; must not overlap x
  std::int64_t ldy = 0;      // >= M
  std::int64_t rows = 0;     // B, 0 allowed
  bool accumulate = false;   // y += instead of y =
};

// Writes exactly y[r, 0..M) of each row. InvalidArgument when the arguments contradict each other.
absl::Status Linear(Stream& stream, const PackedLinear& weight, const LinearArgs& args);

// out[0..K) = the packed row m, widened to f32 (exact). For the embedding lookup from a tied head.
void UnpackLinearRow(const PackedLinear& weight, std::int64_t m, float* out);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_H_
