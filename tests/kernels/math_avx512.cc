// Compiled for AVX-512; called only where it is supported.
#include "tests/kernels/math_lanes.h"

namespace mambad::kernels {

MathFunctions MathOfAvx512() { return MathOf<F32x16>(); }

}  // namespace mambad::kernels
