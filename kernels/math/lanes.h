// Lane types: one interface over a scalar, a portable vector, AVX2 and AVX-512. The formulas of kernels/math
// are templates over a lane type V, so that every path computes the same expression tree.
//
// Every operation rounds once per lane (IEEE, to nearest). MulAdd(a, b, c) is a * b + c: fused in F32x1,
// F32x8, F32x16 and on a GPU, which therefore agree in every bit; F32x4 (no instruction set assumed) rounds
// twice.
//
// Everything is forced inline: an out-of-line copy compiled for AVX-512 must never serve another machine.
#ifndef MAMBAD_KERNELS_MATH_LANES_H_
#define MAMBAD_KERNELS_MATH_LANES_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>

#if defined(__AVX2__) || defined(__AVX512F__)
#include <immintrin.h>
#endif

#if defined(__CUDACC__)
#define MAMBAD_LANE __host__ __device__ __forceinline__
#else
#define MAMBAD_LANE inline __attribute__((always_inline))
#endif

namespace mambad::kernels {

// Adding this to |x| < 2^22 leaves round(x) in the low bits of the sum (1.5 * 2^23).
inline constexpr float kRoundMagic = 12582912.0f;

// One lane, in host and device code.
struct F32x1 {
  static constexpr int kLanes = 1;
  float v;

  static MAMBAD_LANE F32x1 Set(float s) { return {s}; }
  static MAMBAD_LANE F32x1 Load(const float* p) { return {*p}; }
  static MAMBAD_LANE F32x1 LoadN(const float* p, int n) { return {n > 0 ? *p : 0.0f}; }
  MAMBAD_LANE void Store(float* p) const { *p = v; }
  MAMBAD_LANE void StoreN(float* p, int n) const {
    if (n > 0) *p = v;
  }
#if defined(__CUDA_ARCH__)
  friend MAMBAD_LANE F32x1 operator+(F32x1 a, F32x1 b) { return {__fadd_rn(a.v, b.v)}; }
  friend MAMBAD_LANE F32x1 operator-(F32x1 a, F32x1 b) { return {__fsub_rn(a.v, b.v)}; }
  friend MAMBAD_LANE F32x1 operator*(F32x1 a, F32x1 b) { return {__fmul_rn(a.v, b.v)}; }
  friend MAMBAD_LANE F32x1 operator/(F32x1 a, F32x1 b) { return {__fdiv_rn(a.v, b.v)}; }
  friend MAMBAD_LANE F32x1 MulAdd(F32x1 a, F32x1 b, F32x1 c) { return {__fmaf_rn(a.v, b.v, c.v)}; }
  static MAMBAD_LANE std::int32_t Bits(float f) { return __float_as_int(f); }
  static MAMBAD_LANE float FromBits(std::int32_t i) { return __int_as_float(i); }
#else
  friend MAMBAD_LANE F32x1 operator+(F32x1 a, F32x1 b) { return {a.v + b.v}; }
  friend MAMBAD_LANE F32x1 operator-(F32x1 a, F32x1 b) { return {a.v - b.v}; }
  friend MAMBAD_LANE F32x1 operator*(F32x1 a, F32x1 b) { return {a.v * b.v}; }
  friend MAMBAD_LANE F32x1 operator/(F32x1 a, F32x1 b) { return {a.v / b.v}; }
  friend MAMBAD_LANE F32x1 MulAdd(F32x1 a, F32x1 b, F32x1 c) { return {std::fma(a.v, b.v, c.v)}; }
  static MAMBAD_LANE std::int32_t Bits(float f) { return std::bit_cast<std::int32_t>(f); }
  static MAMBAD_LANE float FromBits(std::int32_t i) { return std::bit_cast<float>(i); }
#endif
  // The larger one; x when x is NaN.
  friend MAMBAD_LANE F32x1 MaxNan(F32x1 bound, F32x1 x) { return {bound.v > x.v ? bound.v : x.v}; }
  friend MAMBAD_LANE F32x1 Abs(F32x1 x) { return {FromBits(Bits(x.v) & 0x7fffffff)}; }
  // a where x < bound, else b.
  friend MAMBAD_LANE F32x1 IfLess(F32x1 x, F32x1 bound, F32x1 a, F32x1 b) { return x.v < bound.v ? a : b; }
  // p * 2^n for t = n + kRoundMagic; p and the result must be normal numbers.
  friend MAMBAD_LANE F32x1 AddExponent(F32x1 p, F32x1 t) {
    return {FromBits(static_cast<std::int32_t>(static_cast<std::uint32_t>(Bits(p.v)) +
                                               (static_cast<std::uint32_t>(Bits(t.v)) << 23)))};
  }
  // To the nearest bf16, ties to even; NaN stays NaN.
  friend MAMBAD_LANE F32x1 RoundToBf16(F32x1 x) {
    const std::uint32_t bits = static_cast<std::uint32_t>(Bits(x.v));
    if ((bits & 0x7fffffffu) > 0x7f800000u)
      return {FromBits(static_cast<std::int32_t>((bits | 0x400000u) & 0xffff0000u))};
    return {FromBits(static_cast<std::int32_t>((bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u))};
  }
};

#if !defined(__CUDACC__)

// Four lanes in the compiler's generic vectors.
struct F32x4 {
  static constexpr int kLanes = 4;
  typedef float Vector __attribute__((vector_size(16)));
  typedef std::int32_t Ints __attribute__((vector_size(16)));
  typedef std::uint32_t Words __attribute__((vector_size(16)));
  Vector v;

  static MAMBAD_LANE F32x4 Set(float s) { return {Vector{s, s, s, s}}; }
  static MAMBAD_LANE F32x4 Load(const float* p) {
    F32x4 r;
    std::memcpy(&r.v, p, sizeof(Vector));
    return r;
  }
  static MAMBAD_LANE F32x4 LoadN(const float* p, int n) {
    if (n >= kLanes) return Load(p);
    Vector r = {0, 0, 0, 0};
    for (int i = 0; i < n; ++i) r[i] = p[i];
    return {r};
  }
  MAMBAD_LANE void Store(float* p) const { std::memcpy(p, &v, sizeof(Vector)); }
  MAMBAD_LANE void StoreN(float* p, int n) const {
    if (n >= kLanes) return Store(p);
    for (int i = 0; i < n; ++i) p[i] = v[i];
  }
  friend MAMBAD_LANE F32x4 operator+(F32x4 a, F32x4 b) { return {a.v + b.v}; }
  friend MAMBAD_LANE F32x4 operator-(F32x4 a, F32x4 b) { return {a.v - b.v}; }
  friend MAMBAD_LANE F32x4 operator*(F32x4 a, F32x4 b) { return {a.v * b.v}; }
  friend MAMBAD_LANE F32x4 operator/(F32x4 a, F32x4 b) { return {a.v / b.v}; }
  friend MAMBAD_LANE F32x4 MulAdd(F32x4 a, F32x4 b, F32x4 c) { return {a.v * b.v + c.v}; }
  friend MAMBAD_LANE F32x4 MaxNan(F32x4 bound, F32x4 x) { return {bound.v > x.v ? bound.v : x.v}; }
  friend MAMBAD_LANE F32x4 Abs(F32x4 x) { return {(Vector)((Ints)x.v & 0x7fffffff)}; }
  friend MAMBAD_LANE F32x4 IfLess(F32x4 x, F32x4 bound, F32x4 a, F32x4 b) {
    return {x.v < bound.v ? a.v : b.v};
  }
  friend MAMBAD_LANE F32x4 AddExponent(F32x4 p, F32x4 t) {
    return {(Vector)((Words)p.v + ((Words)t.v << 23))};
  }
  friend MAMBAD_LANE F32x4 RoundToBf16(F32x4 x) {
    const Words bits = (Words)x.v;
    const Words rounded = (bits + 0x7fffu + ((bits >> 16) & 1u)) & 0xffff0000u;
    const Words nan = (bits | 0x400000u) & 0xffff0000u;
    return {(Vector)((bits & 0x7fffffffu) > 0x7f800000u ? nan : rounded)};
  }
};

#endif  // !__CUDACC__

#if defined(__AVX2__) && defined(__FMA__)

struct F32x8 {
  static constexpr int kLanes = 8;
  __m256 v;

  static MAMBAD_LANE __m256i Mask(int n) {
    return _mm256_cmpgt_epi32(_mm256_set1_epi32(n), _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7));
  }
  static MAMBAD_LANE F32x8 Set(float s) { return {_mm256_set1_ps(s)}; }
  static MAMBAD_LANE F32x8 Load(const float* p) { return {_mm256_loadu_ps(p)}; }
  static MAMBAD_LANE F32x8 LoadN(const float* p, int n) { return {_mm256_maskload_ps(p, Mask(n))}; }
  MAMBAD_LANE void Store(float* p) const { _mm256_storeu_ps(p, v); }
  MAMBAD_LANE void StoreN(float* p, int n) const { _mm256_maskstore_ps(p, Mask(n), v); }
  friend MAMBAD_LANE F32x8 operator+(F32x8 a, F32x8 b) { return {_mm256_add_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x8 operator-(F32x8 a, F32x8 b) { return {_mm256_sub_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x8 operator*(F32x8 a, F32x8 b) { return {_mm256_mul_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x8 operator/(F32x8 a, F32x8 b) { return {_mm256_div_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x8 MulAdd(F32x8 a, F32x8 b, F32x8 c) { return {_mm256_fmadd_ps(a.v, b.v, c.v)}; }
  friend MAMBAD_LANE F32x8 MaxNan(F32x8 bound, F32x8 x) { return {_mm256_max_ps(bound.v, x.v)}; }
  friend MAMBAD_LANE F32x8 Abs(F32x8 x) {
    return {_mm256_and_ps(x.v, _mm256_castsi256_ps(_mm256_set1_epi32(0x7fffffff)))};
  }
  friend MAMBAD_LANE F32x8 IfLess(F32x8 x, F32x8 bound, F32x8 a, F32x8 b) {
    return {_mm256_blendv_ps(b.v, a.v, _mm256_cmp_ps(x.v, bound.v, _CMP_LT_OQ))};
  }
  friend MAMBAD_LANE F32x8 AddExponent(F32x8 p, F32x8 t) {
    return {_mm256_castsi256_ps(
        _mm256_add_epi32(_mm256_castps_si256(p.v), _mm256_slli_epi32(_mm256_castps_si256(t.v), 23)))};
  }
  friend MAMBAD_LANE F32x8 RoundToBf16(F32x8 x) {
    const __m256i bits = _mm256_castps_si256(x.v);
    const __m256i high = _mm256_set1_epi32(static_cast<int>(0xffff0000u));
    const __m256i odd = _mm256_and_si256(_mm256_srli_epi32(bits, 16), _mm256_set1_epi32(1));
    const __m256i rounded = _mm256_add_epi32(_mm256_add_epi32(bits, _mm256_set1_epi32(0x7fff)), odd);
    const __m256i nan = _mm256_or_si256(bits, _mm256_set1_epi32(0x400000));
    const __m256 is_nan = _mm256_cmp_ps(x.v, x.v, _CMP_UNORD_Q);
    const __m256i chosen = _mm256_blendv_epi8(rounded, nan, _mm256_castps_si256(is_nan));
    return {_mm256_castsi256_ps(_mm256_and_si256(chosen, high))};
  }
};

#endif  // AVX2

#if defined(__AVX512F__)

struct F32x16 {
  static constexpr int kLanes = 16;
  __m512 v;

  static MAMBAD_LANE __mmask16 Mask(int n) {
    return n >= kLanes ? __mmask16{0xffff} : n <= 0 ? __mmask16{0} : static_cast<__mmask16>((1u << n) - 1u);
  }
  static MAMBAD_LANE F32x16 Set(float s) { return {_mm512_set1_ps(s)}; }
  static MAMBAD_LANE F32x16 Load(const float* p) { return {_mm512_loadu_ps(p)}; }
  static MAMBAD_LANE F32x16 LoadN(const float* p, int n) { return {_mm512_maskz_loadu_ps(Mask(n), p)}; }
  MAMBAD_LANE void Store(float* p) const { _mm512_storeu_ps(p, v); }
  MAMBAD_LANE void StoreN(float* p, int n) const { _mm512_mask_storeu_ps(p, Mask(n), v); }
  friend MAMBAD_LANE F32x16 operator+(F32x16 a, F32x16 b) { return {_mm512_add_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x16 operator-(F32x16 a, F32x16 b) { return {_mm512_sub_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x16 operator*(F32x16 a, F32x16 b) { return {_mm512_mul_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x16 operator/(F32x16 a, F32x16 b) { return {_mm512_div_ps(a.v, b.v)}; }
  friend MAMBAD_LANE F32x16 MulAdd(F32x16 a, F32x16 b, F32x16 c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
  friend MAMBAD_LANE F32x16 MaxNan(F32x16 bound, F32x16 x) { return {_mm512_max_ps(bound.v, x.v)}; }
  friend MAMBAD_LANE F32x16 Abs(F32x16 x) {
    return {_mm512_castsi512_ps(_mm512_and_epi32(_mm512_castps_si512(x.v), _mm512_set1_epi32(0x7fffffff)))};
  }
  friend MAMBAD_LANE F32x16 IfLess(F32x16 x, F32x16 bound, F32x16 a, F32x16 b) {
    return {_mm512_mask_blend_ps(_mm512_cmp_ps_mask(x.v, bound.v, _CMP_LT_OQ), b.v, a.v)};
  }
  friend MAMBAD_LANE F32x16 AddExponent(F32x16 p, F32x16 t) {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(p.v), _mm512_slli_epi32(_mm512_castps_si512(t.v), 23)))};
  }
  friend MAMBAD_LANE F32x16 RoundToBf16(F32x16 x) {
    const __m512i bits = _mm512_castps_si512(x.v);
    const __m512i odd = _mm512_and_epi32(_mm512_srli_epi32(bits, 16), _mm512_set1_epi32(1));
    const __m512i rounded = _mm512_add_epi32(_mm512_add_epi32(bits, _mm512_set1_epi32(0x7fff)), odd);
    const __m512i nan = _mm512_or_epi32(bits, _mm512_set1_epi32(0x400000));
    const __mmask16 is_nan = _mm512_cmp_ps_mask(x.v, x.v, _CMP_UNORD_Q);
    const __m512i chosen = _mm512_mask_blend_epi32(is_nan, rounded, nan);
    return {_mm512_castsi512_ps(_mm512_and_epi32(chosen, _mm512_set1_epi32(static_cast<int>(0xffff0000u))))};
  }
};

#endif  // AVX-512

// Two V as one lane type. Each operation is issued for both halves before the next one, so two chains of
// dependent instructions run side by side: the schedulers of a core are too short to find the second one by
// themselves.
template <class V>
struct Pair {
  static constexpr int kLanes = 2 * V::kLanes;
  V low, high;

  static MAMBAD_LANE Pair Set(float s) { return {V::Set(s), V::Set(s)}; }
  static MAMBAD_LANE Pair Load(const float* p) { return {V::Load(p), V::Load(p + V::kLanes)}; }
  static MAMBAD_LANE Pair LoadN(const float* p, int n) {
    return {V::LoadN(p, n), V::LoadN(p + V::kLanes, n - V::kLanes)};
  }
  MAMBAD_LANE void Store(float* p) const {
    low.Store(p);
    high.Store(p + V::kLanes);
  }
  MAMBAD_LANE void StoreN(float* p, int n) const {
    low.StoreN(p, n);
    high.StoreN(p + V::kLanes, n - V::kLanes);
  }
  friend MAMBAD_LANE Pair operator+(Pair a, Pair b) { return {a.low + b.low, a.high + b.high}; }
  friend MAMBAD_LANE Pair operator-(Pair a, Pair b) { return {a.low - b.low, a.high - b.high}; }
  friend MAMBAD_LANE Pair operator*(Pair a, Pair b) { return {a.low * b.low, a.high * b.high}; }
  friend MAMBAD_LANE Pair operator/(Pair a, Pair b) { return {a.low / b.low, a.high / b.high}; }
  friend MAMBAD_LANE Pair MulAdd(Pair a, Pair b, Pair c) {
    return {MulAdd(a.low, b.low, c.low), MulAdd(a.high, b.high, c.high)};
  }
  friend MAMBAD_LANE Pair MaxNan(Pair bound, Pair x) {
    return {MaxNan(bound.low, x.low), MaxNan(bound.high, x.high)};
  }
  friend MAMBAD_LANE Pair Abs(Pair x) { return {Abs(x.low), Abs(x.high)}; }
  friend MAMBAD_LANE Pair IfLess(Pair x, Pair bound, Pair a, Pair b) {
    return {IfLess(x.low, bound.low, a.low, b.low), IfLess(x.high, bound.high, a.high, b.high)};
  }
  friend MAMBAD_LANE Pair AddExponent(Pair p, Pair t) {
    return {AddExponent(p.low, t.low), AddExponent(p.high, t.high)};
  }
  friend MAMBAD_LANE Pair RoundToBf16(Pair x) { return {RoundToBf16(x.low), RoundToBf16(x.high)}; }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_LANES_H_
