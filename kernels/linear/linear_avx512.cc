// Compiled for AVX-512 (F, BW, DQ, VL, BF16); runs only where CpuPath::kAvx512 was selected.
#include <immintrin.h>

#include "kernels/linear/linear_tile.h"

namespace mambad::kernels {
namespace {

struct Avx512 {
  using Acc = __m512;
  static constexpr std::int64_t kStepBytes = 64;
  static constexpr int kMaxRows = 12;
  // 32 registers: at most 24 accumulators, the weights of each panel.
  static constexpr int PanelsFor(int rows) { return rows <= 2 ? 8 : rows <= 6 ? 4 : 2; }

  [[gnu::always_inline]] static Acc Zero() { return _mm512_setzero_ps(); }
  [[gnu::always_inline]] static void Finish(Acc acc, const float* bias, bool accumulate, float* y,
                                            std::int64_t channels) {
    const __mmask16 mask = static_cast<__mmask16>((1u << channels) - 1);
    if (bias != nullptr) acc = _mm512_add_ps(acc, _mm512_loadu_ps(bias));
    if (accumulate) acc = _mm512_add_ps(_mm512_maskz_loadu_ps(mask, y), acc);
    _mm512_mask_storeu_ps(y, mask, acc);
  }
};

struct F32 : Avx512 {
  using Weights = __m512;
  using X = float;
  [[gnu::always_inline]] static Weights Load(const std::byte* p) {
    return _mm512_load_ps(reinterpret_cast<const float*>(p));
  }
  [[gnu::always_inline]] static void MultiplyAdd(Acc& acc, Weights w, const float& x) {
    acc = _mm512_fmadd_ps(_mm512_set1_ps(x), w, acc);
  }
};

struct Bf16 : Avx512 {
  using Weights = __m512i;
  using X = std::uint32_t;  // x[2s] in the low half, x[2s + 1] in the high half
  [[gnu::always_inline]] static Weights Load(const std::byte* p) {
    return _mm512_load_si512(reinterpret_cast<const __m512i*>(p));
  }
  [[gnu::always_inline]] static void MultiplyAdd(Acc& acc, Weights w, const std::uint32_t& x) {
    acc = _mm512_dpbf16_ps(acc, (__m512bh)w, (__m512bh)_mm512_set1_epi32(static_cast<int>(x)));
  }
};

// FloatToBf16 on 16 floats. Integer arithmetic: the conversion instruction would flush subnormals.
__m256i ToBf16(__m512 value) {
  const __m512i bits = _mm512_castps_si512(value);
  const __m512i odd = _mm512_and_si512(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
  const __m512i rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
  const __m512i quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x400000));
  const __mmask16 nan = _mm512_cmp_ps_mask(value, value, _CMP_UNORD_Q);
  return _mm512_cvtepi32_epi16(_mm512_srli_epi32(_mm512_mask_mov_epi32(rounded, nan, quiet), 16));
}

void Convert(const float* x, std::int64_t K, std::byte* out) {
  std::uint16_t* rounded = reinterpret_cast<std::uint16_t*>(out);
  std::int64_t k = 0;
  for (; k + 16 <= K; k += 16) {
    _mm256_storeu_si256(reinterpret_cast<__m256i*>(rounded + k), ToBf16(_mm512_loadu_ps(x + k)));
  }
  if (k == K) return;
  // An odd K is padded to a whole pair with 0.
  const __mmask16 in = static_cast<__mmask16>((1u << (K - k)) - 1);
  const __mmask16 written = static_cast<__mmask16>((1u << (K - k + K % 2)) - 1);
  _mm256_mask_storeu_epi16(rounded + k, written, ToBf16(_mm512_maskz_loadu_ps(in, x + k)));
}

}  // namespace

const LinearKernels& Avx512LinearKernels() {
  static constexpr LinearKernels kKernels = {
      .f32 = {PanelLayout::kF32, F32::kMaxRows, F32::PanelsFor(1), sizeof(float), nullptr, &RunTile<F32>},
      .bf16 = {PanelLayout::kBf16Pair, Bf16::kMaxRows, Bf16::PanelsFor(1), sizeof(std::uint32_t), &Convert,
               &RunTile<Bf16>},
  };
  return kKernels;
}

}  // namespace mambad::kernels
