// The GPU's exponential where its special function unit is meant: ex2.approx, relative error below 2^-22 (PTX
// ISA), results below 2^-126 are 0, NaN gives NaN. Shared by every GPU kernel that needs decays at full speed;
// the formulas of exp.h take four times the instructions.
#ifndef MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
#define MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_

namespace mambad::kernels {

__device__ __forceinline__ float Exp2Approx(float x) {
  float y;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
  return y;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_EXP_APPROX_CUH_
