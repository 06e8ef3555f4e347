// The formulas of kernels/math on arrays, one lane type per source file.
#ifndef MAMBAD_TESTS_KERNELS_MATH_LANES_H_
#define MAMBAD_TESTS_KERNELS_MATH_LANES_H_

#include <cstdint>

#include "kernels/math/exp.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

struct MathFunctions {
  using Map = void (*)(const float* x, std::int64_t count, float* y);  // count is a multiple of 16
  Map exp2, exp, log1p, softplus, silu, round_to_bf16;
};

template <class V, V (*kFunction)(V)>
void Map(const float* x, std::int64_t count, float* y) {
  for (std::int64_t i = 0; i < count; i += V::kLanes) kFunction(V::Load(x + i)).Store(y + i);
}

template <class V>
V RoundToBf16Lanes(V x) {
  return RoundToBf16(x);
}

template <class V>
MathFunctions MathOf() {
  return {&Map<V, &Exp2NonPositive<V>>, &Map<V, &ExpNonPositive<V>>, &Map<V, &Log1pUnit<V>>,
          &Map<V, &Softplus<V>>,        &Map<V, &Silu<V>>,           &Map<V, &RoundToBf16Lanes<V>>};
}

MathFunctions MathOfAvx2();
MathFunctions MathOfAvx512();

}  // namespace mambad::kernels

#endif  // MAMBAD_TESTS_KERNELS_MATH_LANES_H_
