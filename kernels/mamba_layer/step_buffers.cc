#include "kernels/mamba_layer/step_buffers.h"

#include "kernels/mamba_layer/step_layout.h"
#include "kernels/mamba_layer/x_proj_fold.h"

namespace mambad::kernels {
namespace {

class Cutter {
 public:
  explicit Cutter(std::byte* memory) : memory_(memory) {}

  template <class T>
  T* Take(std::int64_t count) {
    std::byte* const taken = memory_ == nullptr ? nullptr : memory_ + bytes_;
    bytes_ += static_cast<std::size_t>(RoundUp(count * static_cast<std::int64_t>(sizeof(T)), 256));
    return reinterpret_cast<T*>(taken);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::byte* memory_;
  std::size_t bytes_ = 0;
};

HandedBuffers CutHanded(Cutter& cutter, const StepWidths& widths) {
  constexpr std::int64_t kInTurns = kHandedPlaces * kMostStackRows, kAll = kInTurns + kMostStackRows;
  const std::size_t begin = cutter.bytes();
  HandedBuffers handed = {.u = cutter.Take<std::uint16_t>(kInTurns * widths.d_model),
                          .square_sums = cutter.Take<float>(kInTurns * widths.d_model / 16),
                          .x = cutter.Take<std::uint16_t>(kAll * widths.d_inner),
                          .gate = cutter.Take<std::uint16_t>(kAll * widths.d_inner),
                          .y = cutter.Take<std::uint16_t>(kAll * widths.d_inner),
                          .dt_bc = cutter.Take<float>(kAll * widths.dt_bc),
                          .folded = cutter.Take<float>((kHandedPlaces + 1) * FoldFloats(widths.d_inner))};
  handed.bytes = cutter.bytes() - begin;
  return handed;
}

StepBuffers Cut(Cutter& cutter, int rows, const StepWidths& widths) {
  const std::int64_t padded = RoundUp(rows, kMaxTileColumns);
  return {.residual = cutter.Take<float>(padded * widths.d_model),
          .u = cutter.Take<std::uint16_t>(padded * widths.d_model),
          .square_sums = cutter.Take<float>(padded * widths.d_model / 16),
          .x = cutter.Take<std::uint16_t>(padded * widths.d_inner),
          .gate = cutter.Take<std::uint16_t>(padded * widths.d_inner),
          .dt_bc = cutter.Take<float>(padded * widths.dt_bc),
          .folded = cutter.Take<float>(kCore * FoldFloats(widths.d_inner)),
          .y = cutter.Take<std::uint16_t>(padded * widths.d_inner),
          .handed = CutHanded(cutter, widths)};
}

}  // namespace

std::size_t StepBufferBytes(int rows, const StepWidths& widths) {
  Cutter cutter(nullptr);
  Cut(cutter, rows, widths);
  return cutter.bytes();
}

StepBuffers BindStepBuffers(std::byte* memory, int rows, const StepWidths& widths) {
  Cutter cutter(memory);
  return Cut(cutter, rows, widths);
}

}  // namespace mambad::kernels
