// Compiled for AVX2 and FMA; runs only where CpuPath::kAvx2 was selected.
#include <immintrin.h>

#include "kernels/linear/linear_tile.h"

namespace mambad::kernels {
namespace {

struct Avx2 {
  struct Acc {
    __m256 low, high;  // channels 0 to 7, 8 to 15
  };
  using Weights = Acc;
  using X = float;
  static constexpr int kMaxRows = 6;
  // 16 registers: 12 accumulators, the weights, a broadcast x.
  static constexpr int PanelsFor(int rows) { return rows == 1 ? 4 : rows == 2 ? 2 : 1; }

  [[gnu::always_inline]] static Acc Zero() { return {_mm256_setzero_ps(), _mm256_setzero_ps()}; }
  [[gnu::always_inline]] static void MultiplyAdd(Acc& acc, const Weights& w, const float& x) {
    const __m256 broadcast = _mm256_broadcast_ss(&x);
    acc.low = _mm256_fmadd_ps(broadcast, w.low, acc.low);
    acc.high = _mm256_fmadd_ps(broadcast, w.high, acc.high);
  }
  [[gnu::always_inline]] static void Finish(Acc acc, const float* bias, bool accumulate, float* y,
                                            std::int64_t channels) {
    if (bias != nullptr) {
      acc.low = _mm256_add_ps(acc.low, _mm256_loadu_ps(bias));
      acc.high = _mm256_add_ps(acc.high, _mm256_loadu_ps(bias + 8));
    }
    if (channels == kPanelChannels) {
      Store(acc, accumulate, y);
      return;
    }
    float whole[kPanelChannels] = {};
    for (std::int64_t i = 0; accumulate && i < channels; ++i) whole[i] = y[i];
    Store(acc, accumulate, whole);
    for (std::int64_t i = 0; i < channels; ++i) y[i] = whole[i];
  }

 private:
  [[gnu::always_inline]] static void Store(Acc acc, bool accumulate, float* y) {
    if (accumulate) {
      acc.low = _mm256_add_ps(_mm256_loadu_ps(y), acc.low);
      acc.high = _mm256_add_ps(_mm256_loadu_ps(y + 8), acc.high);
    }
    _mm256_storeu_ps(y, acc.low);
    _mm256_storeu_ps(y + 8, acc.high);
  }
};

struct F32 : Avx2 {
  static constexpr std::int64_t kStepBytes = 64;
  [[gnu::always_inline]] static Weights Load(const std::byte* p) {
    const float* w = reinterpret_cast<const float*>(p);
    return {_mm256_load_ps(w), _mm256_load_ps(w + 8)};
  }
};

struct Bf16 : Avx2 {
  static constexpr std::int64_t kStepBytes = 32;
  [[gnu::always_inline]] static Weights Load(const std::byte* p) {
    const __m256i words = _mm256_load_si256(reinterpret_cast<const __m256i*>(p));
    return {_mm256_castsi256_ps(_mm256_slli_epi32(words, 16)),
            _mm256_castsi256_ps(_mm256_and_si256(words, _mm256_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

// FloatToBf16 and back, on 8 floats.
__m256 RoundToBf16(__m256 value) {
  const __m256i bits = _mm256_castps_si256(value);
  const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
  const __m256i rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
  const __m256i quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
  const __m256 nan = _mm256_cmp_ps(value, value, _CMP_UNORD_Q);
  const __m256 result = _mm256_blendv_ps(_mm256_castsi256_ps(rounded), _mm256_castsi256_ps(quiet), nan);
  return _mm256_and_ps(result, _mm256_castsi256_ps(_mm256_set1_epi32(static_cast<int>(0xffff0000u))));
}

void Convert(const float* x, std::int64_t K, std::byte* out) {
  float* rounded = reinterpret_cast<float*>(out);
  std::int64_t k = 0;
  for (; k + 8 <= K; k += 8) _mm256_storeu_ps(rounded + k, RoundToBf16(_mm256_loadu_ps(x + k)));
  if (k == K) return;
  float rest[8] = {};
  for (std::int64_t i = k; i < K; ++i) rest[i - k] = x[i];
  _mm256_storeu_ps(rest, RoundToBf16(_mm256_loadu_ps(rest)));
  for (std::int64_t i = k; i < K; ++i) rounded[i] = rest[i - k];
}

}  // namespace

const LinearKernels& Avx2LinearKernels() {
  static constexpr LinearKernels kKernels = {
      .f32 = {PanelLayout::kF32, F32::kMaxRows, F32::PanelsFor(1), sizeof(float), nullptr, &RunTile<F32>},
      .bf16 = {PanelLayout::kBf16Split, Bf16::kMaxRows, Bf16::PanelsFor(1), sizeof(float), &Convert,
               &RunTile<Bf16>},
  };
  return kKernels;
}

}  // namespace mambad::kernels
