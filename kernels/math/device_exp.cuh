// Exponential, softplus and SiLU as the GPU's bf16 path defines them: on the special function unit, which is
// several times faster there than the polynomials of exp.h. One definition for every kernel, so that the same
// input gives the same bits wherever it is computed. Error bounds: against fp64, over the whole range, by
// kernels/bench/prompt_bench.cu.
#ifndef MAMBAD_KERNELS_MATH_DEVICE_EXP_CUH_
#define MAMBAD_KERNELS_MATH_DEVICE_EXP_CUH_

#include "kernels/math/exp_approx.cuh"

namespace mambad::kernels {

__device__ __forceinline__ float FastLog2(float x) {
  float y;
  asm("lg2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

// log(1 + e^x), relative error below 2^-16: by the logarithm where e^-|x| is large enough that 1 + e keeps
// its digits, otherwise by the series of log(1 + e).
__device__ __forceinline__ float FastSoftplus(float x) {
  const float e = Exp2Approx(__fmul_rn(-fabsf(x), 1.4426950408889634f));
  float series = __fmaf_rn(e, -0.25f, 0.333333343f);
  series = __fmaf_rn(-e, series, 0.5f);
  series = __fmaf_rn(-e, series, 1.0f);
  const float log1p =
      e < 0.04f ? __fmul_rn(e, series) : __fmul_rn(FastLog2(__fadd_rn(1.0f, e)), 0.6931471805599453f);
  return __fadd_rn(fmaxf(x, 0.0f), log1p);  // the maximum of NaN is 0, but then log1p is NaN
}

// x / (1 + e^-x), relative error below 2^-20 where it is not tiny.
__device__ __forceinline__ float FastSilu(float x) {
  return __fmul_rn(x, ReciprocalApprox(__fadd_rn(1.0f, Exp2Approx(__fmul_rn(x, -1.4426950408889634f)))));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_DEVICE_EXP_CUH_
