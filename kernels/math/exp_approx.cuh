// The GPU's exponential and what follows from it, by its special function unit: ex2.approx, relative error
// below 2^-22 (PTX ISA; measured over 2^24 points x <= 0 on an H100), results below 2^-126 are 0, NaN gives
// NaN. Shared by every GPU kernel that needs decays at full speed; the formulas of exp.h take four times the
// instructions.
#ifndef MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
#define MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_

namespace mambad::kernels {

__device__ __forceinline__ float Exp2Approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// 1 / x, relative error below 2^-23 (PTX ISA) for 2^-126 <= |x| <= 2^126; 0 above. __fdividef takes three
// instructions more for what lies outside.
__device__ __forceinline__ float ReciprocalApprox(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// x * sigmoid(x). Relative error below (1.5 |x| + 12) 2^-24: |x| from the rounded exponent, the rest from
// ex2, the sum, the reciprocal and its product. Derived, not yet measured. 0 below -87.
__device__ __forceinline__ float SiluApprox(float x) {
  const float e = Exp2Approx(fabsf(x) * -0x1.715476p+0f);
  return __fmul_rn(x, __fmul_rn(ReciprocalApprox(__fadd_rn(1.0f, e)), x < 0.0f ? e : 1.0f));
}

// log(1 + e^x) as in exp.h. Relative error below (1.5 |x| + 16) 2^-24, derived likewise. 0 below -87.
__device__ __forceinline__ float SoftplusApprox(float x) {
  const float e = Exp2Approx(fabsf(x) * -0x1.715476p+0f);
  const float s = __fmul_rn(ReciprocalApprox(__fadd_rn(2.0f, e)), e);
  const float q = __fmul_rn(s, s);
  float p = __fmaf_rn(q, 0x1.1ef87p-3f, 0x1.1eb612p-3f);
  p = __fmaf_rn(p, q, 0x1.99d27cp-3f);
  p = __fmaf_rn(p, q, 0x1.5555p-2f);
  const float s2 = __fadd_rn(s, s);
  return __fadd_rn(0.0f > x ? 0.0f : x, __fmaf_rn(__fmul_rn(p, q), s2, s2));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
