// The GPU's exponential and what follows from it, by its special function unit, which is several times faster
// than the polynomials of exp.h. One definition for every kernel, so that the same input gives the same bits
// wherever it is computed. The error bounds are measured against fp64 by kernels/bench/prompt_bench.cu.
#ifndef MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
#define MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_

namespace mambad::kernels {

// 2^x, relative error below 2^-22; results below 2^-126 are 0, -inf gives 0, NaN gives NaN.
__device__ __forceinline__ float Exp2Approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

__device__ __forceinline__ float ReciprocalApprox(float x) {
  float y;
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// x * sigmoid(x). Relative error below (1.5 |x| + 12) 2^-24: |x| from the rounded exponent, the rest from
// ex2, the sum and the reciprocal. 0 below -87.
__device__ __forceinline__ float SiluApprox(float x) {
  return __fmul_rn(x, ReciprocalApprox(__fadd_rn(1.0f, Exp2Approx(__fmul_rn(x, -0x1.715476p+0f)))));
}

// log(1 + e^x) as in exp.h. Relative error below (1.5 |x| + 16) 2^-24. 0 below -87.
__device__ __forceinline__ float SoftplusApprox(float x) {
  const float e = Exp2Approx(fabsf(x) * -0x1.715476p+0f);
  const float s = __fmul_rn(e, ReciprocalApprox(__fadd_rn(2.0f, e)));
  const float q = __fmul_rn(s, s);
  float p = __fmaf_rn(q, 0x1.1ef87p-3f, 0x1.1eb612p-3f);
  p = __fmaf_rn(p, q, 0x1.99d27cp-3f);
  p = __fmaf_rn(p, q, 0x1.5555p-2f);
  const float s2 = __fadd_rn(s, s);
  return __fadd_rn(0.0f > x ? 0.0f : x, __fmaf_rn(__fmul_rn(p, q), s2, s2));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
