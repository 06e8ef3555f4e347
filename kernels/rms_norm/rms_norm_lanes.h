// The rows of rms_norm over a lane type.
#ifndef MAMBAD_KERNELS_RMS_NORM_RMS_NORM_LANES_H_
#define MAMBAD_KERNELS_RMS_NORM_RMS_NORM_LANES_H_

#include <cmath>
#include <cstdint>

#include "kernels/math/lanes.h"
#include "kernels/math/tree_sum.h"
#include "kernels/rms_norm/rms_norm_cpu.h"

namespace mambad::kernels {

template <class V>
float SumOfSquares(const float* x, std::int64_t width) {
  TreeSum<V> sum;
  std::int64_t i = 0;
  for (; i + kSumLanes <= width; i += kSumLanes) {
    for (int j = 0; j < TreeSum<V>::kVectors; ++j) {
      const V v = V::Load(x + i + j * V::kLanes);
      sum.Add(j, v * v);
    }
  }
  for (int j = 0; i < width; ++j, i += V::kLanes) {
    const V v = V::LoadN(x + i, static_cast<int>(width - i));
    sum.Add(j, v * v);
  }
  return sum.Total();
}

template <class V>
void RmsNormRows(const RmsNormArgs& args, Range rows) {
  const V one = V::Set(1.0f);
  for (std::int64_t row = rows.begin; row < rows.end; ++row) {
    const float* x = args.x + row * args.x_stride;
    float* y = args.y + row * args.y_stride;
    const float mean = SumOfSquares<V>(x, args.width) / static_cast<float>(args.width);
    const V scale = V::Set(1.0f / std::sqrt(mean + args.eps));
    for (std::int64_t i = 0; i < args.width; i += V::kLanes) {
      const int n = static_cast<int>(args.width - i < V::kLanes ? args.width - i : V::kLanes);
      const V weight = args.weight != nullptr ? V::LoadN(args.weight + i, n) : one;
      (V::LoadN(x + i, n) * scale * weight).StoreN(y + i, n);
    }
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_RMS_NORM_RMS_NORM_LANES_H_
