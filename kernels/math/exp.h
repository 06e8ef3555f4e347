// Exponential, softplus and SiLU: one formula for every path. Error bounds are measured over the whole range
// by tests/kernels/math_test.cc. Coefficients: minimax fits in double, rounded to fp32.
#ifndef MAMBAD_KERNELS_MATH_EXP_H_
#define MAMBAD_KERNELS_MATH_EXP_H_

#include "kernels/math/lanes.h"

namespace mambad::kernels {

// 2^x for x <= 0, within 2 ulp. Below -125.5 the result stays at its smallest, 1.7e-38: a decay that small
// has forgotten everything, and the scan saves an instruction. A NaN whose payload has low bits may give any
// value (the state step's other term carries it); the NaN that arithmetic makes gives NaN.
template <class V>
MAMBAD_LANE V Exp2NonPositive(V x) {
  x = MaxNan(V::Set(-125.5f), x);
  const V t = x + V::Set(kRoundMagic);
  const V f = x - (t - V::Set(kRoundMagic));  // exact, in [-1/2, 1/2]
  V p = MulAdd(f, V::Set(0x1.588d9ap-10f), V::Set(0x1.3ceb38p-7f));
  p = MulAdd(p, f, V::Set(0x1.c6c03p-5f));
  p = MulAdd(p, f, V::Set(0x1.ebf9bcp-3f));
  p = MulAdd(p, f, V::Set(0x1.62e41ep-1f));
  p = MulAdd(p, f, V::Set(1.0f));
  return AddExponent(p, t);
}

// e^x for x <= 0, within 2 ulp; 0 below -87 (e^-87 = 1.6e-38, the smallest normal number is 1.2e-38). NaN
// gives NaN.
template <class V>
MAMBAD_LANE V ExpNonPositive(V x) {
  const V floor = V::Set(-87.0f);
  const V clamped = MaxNan(floor, x);
  const V t = MulAdd(clamped, V::Set(0x1.715476p+0f), V::Set(kRoundMagic));
  const V n = t - V::Set(kRoundMagic);
  // Cody-Waite: n * 0x1.62e4p-1 is exact (8 + 15 bits), so the first difference is too.
  V f = MulAdd(n, V::Set(-0x1.62e4p-1f), clamped);
  f = MulAdd(n, V::Set(-0x1.7f7d1cp-20f), f);
  V p = MulAdd(f, V::Set(0x1.6a244cp-10f), V::Set(0x1.1239d4p-7f));
  p = MulAdd(p, f, V::Set(0x1.5558f2p-5f));
  p = MulAdd(p, f, V::Set(0x1.555492p-3f));
  p = MulAdd(p, f, V::Set(0x1.fffffcp-2f));
  p = MulAdd(p * f, f, f);
  p = p + V::Set(1.0f);
  // By a product, not by AddExponent(p, t), which would lose a NaN.
  return IfLess(x, floor, V::Set(0.0f), p * AddExponent(V::Set(1.0f), t));
}

// log(1 + e) for e in [0, 1] as 2 atanh(e / (2 + e)), within 3 ulp.
template <class V>
MAMBAD_LANE V Log1pUnit(V e) {
  const V s = e / (V::Set(2.0f) + e);
  const V q = s * s;
  V p = MulAdd(q, V::Set(0x1.1ef87p-3f), V::Set(0x1.1eb612p-3f));
  p = MulAdd(p, q, V::Set(0x1.99d27cp-3f));
  p = MulAdd(p, q, V::Set(0x1.5555p-2f));
  const V s2 = s + s;
  return MulAdd(p * q, s2, s2);
}

// log(1 + e^x) = max(x, 0) + log(1 + e^-|x|), within 4 ulp for x >= -87; 0 below.
template <class V>
MAMBAD_LANE V Softplus(V x) {
  return MaxNan(V::Set(0.0f), x) + Log1pUnit(ExpNonPositive(V::Set(0.0f) - Abs(x)));
}

// x * sigmoid(x), within 4 ulp (absolute error below 1.5e-36 for x < -87, where it is 0).
template <class V>
MAMBAD_LANE V Silu(V x) {
  const V zero = V::Set(0.0f);
  const V one = V::Set(1.0f);
  const V e = ExpNonPositive(zero - Abs(x));
  return x * (IfLess(x, zero, e, one) / (one + e));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_EXP_H_
