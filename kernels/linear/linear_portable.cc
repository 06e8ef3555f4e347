// Plain C++ for any machine; the compiler lowers the vectors to what its baseline has.
#include <cstring>

#include "kernels/base/dtype.h"
#include "kernels/linear/linear_tile.h"

namespace mambad::kernels {
namespace {

struct Portable {
  typedef float Vector __attribute__((vector_size(32)));
  typedef std::uint32_t Words __attribute__((vector_size(32)));
  struct Acc {
    Vector low, high;  // channels 0 to 7, 8 to 15
  };
  using Weights = Acc;
  using X = float;
  static constexpr int kMaxRows = 2;
  static constexpr int PanelsFor(int rows) { return rows == 1 ? 2 : 1; }

  static Acc Zero() { return {Vector{}, Vector{}}; }
  static void MultiplyAdd(Acc& acc, const Weights& w, float x) {
    acc.low += x * w.low;
    acc.high += x * w.high;
  }
  static void Finish(const Acc& acc, const float* bias, bool accumulate, float* y, std::int64_t channels) {
    for (std::int64_t i = 0; i < channels; ++i) {
      float value = i < 8 ? acc.low[i] : acc.high[i - 8];
      if (bias != nullptr) value += bias[i];
      y[i] = accumulate ? y[i] + value : value;
    }
  }
};

struct F32 : Portable {
  static constexpr std::int64_t kStepBytes = 64;
  static Weights Load(const std::byte* p) {
    Weights w;
    std::memcpy(&w.low, p, sizeof(w.low));
    std::memcpy(&w.high, p + 32, sizeof(w.high));
    return w;
  }
};

struct Bf16 : Portable {
  static constexpr std::int64_t kStepBytes = 32;
  static Weights Load(const std::byte* p) {
    Words words;
    std::memcpy(&words, p, sizeof(words));
    return {reinterpret_cast<Vector>(words << 16), reinterpret_cast<Vector>(words & 0xffff0000u)};
  }
};

void Convert(const float* x, std::int64_t K, std::byte* out) {
  float* rounded = reinterpret_cast<float*>(out);
  for (std::int64_t k = 0; k < K; ++k) rounded[k] = RoundToBf16(x[k]);
}

}  // namespace

const LinearKernels& PortableLinearKernels() {
  static constexpr LinearKernels kKernels = {
      .f32 = {PanelLayout::kF32, F32::kMaxRows, F32::PanelsFor(1), sizeof(float), nullptr, &RunTile<F32>},
      .bf16 = {PanelLayout::kBf16Split, Bf16::kMaxRows, Bf16::PanelsFor(1), sizeof(float), &Convert,
               &RunTile<Bf16>},
  };
  return kKernels;
}

}  // namespace mambad::kernels
