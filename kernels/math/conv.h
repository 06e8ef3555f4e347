// One output of the causal convolution: taps ascending (oldest input first) into an accumulator that starts
// at the bias, then SiLU. Called by prefill and step, so both give the same bits.
#ifndef MAMBAD_KERNELS_MATH_CONV_H_
#define MAMBAD_KERNELS_MATH_CONV_H_

#include "kernels/math/exp.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

template <class V>
MAMBAD_LANE V ConvTap(V accumulator, V input, V weight) {
  return MulAdd(input, weight, accumulator);
}

template <class V>
MAMBAD_LANE V ConvOutput(V accumulator) {
  return Silu(accumulator);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_CONV_H_
