// Compiled for AVX2 and FMA; called only where they are supported.
#include "tests/kernels/math_lanes.h"

namespace mambad::kernels {

MathFunctions MathOfAvx2() { return MathOf<F32x8>(); }

}  // namespace mambad::kernels
