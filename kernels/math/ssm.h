// The selective state space step of one channel, in pieces that prefill and step share.
#ifndef MAMBAD_KERNELS_MATH_SSM_H_
#define MAMBAD_KERNELS_MATH_SSM_H_

#include "kernels/math/exp.h"
#include "kernels/math/lanes.h"

namespace mambad::kernels {

// The sum over n runs as this many interleaved partial sums: n goes to n mod 4, ascending; then
// (s0 + s1) + (s2 + s3). Absent terms (N below 4) count as +0.
inline constexpr int kStateSumWays = 4;

template <class V>
MAMBAD_LANE V Delta(V delta_raw, V bias) {
  return Softplus(delta_raw + bias);
}

// h <- exp(delta * A) * h + (delta * x) * B for one n.
template <class V>
MAMBAD_LANE V StateStep(V h, V delta, V delta_x, V decay_log2, V b) {
  return MulAdd(Exp2NonPositive(delta * decay_log2), h, delta_x * b);
}

// The sum over n, with the skip.
template <class V>
MAMBAD_LANE V StateOutput(V sum0, V sum1, V sum2, V sum3, V skip, V x) {
  return MulAdd(skip, x, (sum0 + sum1) + (sum2 + sum3));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_SSM_H_
