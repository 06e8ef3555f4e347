// The fixed tree of every sum over a row (norm, softmax): 32 interleaved partial sums (element i goes to
// partial i mod 32, ascending i), then partial j + 16, j + 8, ... pairwise. No fused multiply-adds, and
// padding adds +0: the bits depend on neither the vector width nor the path.
#ifndef MAMBAD_KERNELS_MATH_TREE_SUM_H_
#define MAMBAD_KERNELS_MATH_TREE_SUM_H_

#include "kernels/math/lanes.h"

namespace mambad::kernels {

inline constexpr int kSumLanes = 32;

// The partial sums of one row; terms are never -0.
template <class V>
struct TreeSum {
  static constexpr int kVectors = kSumLanes / V::kLanes;
  V part[kVectors];

  MAMBAD_LANE TreeSum() {
    for (int j = 0; j < kVectors; ++j) part[j] = V::Set(0.0f);
  }
  // The terms of elements i with i mod 32 = j * V::kLanes + lane.
  MAMBAD_LANE void Add(int j, V terms) { part[j] = part[j] + terms; }

  MAMBAD_LANE float Total() const {
    V p[kVectors];
    for (int j = 0; j < kVectors; ++j) p[j] = part[j];
    for (int half = kVectors / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) p[j] = p[j] + p[j + half];
    }
    float s[V::kLanes];
    p[0].Store(s);
    for (int half = V::kLanes / 2; half > 0; half /= 2) {
      for (int j = 0; j < half; ++j) s[j] = s[j] + s[j + half];
    }
    return s[0];
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MATH_TREE_SUM_H_
