// y[i] = x[i] / sqrt(mean(x^2) + eps) * weight[i], the independent witness: plain loops in T.
#ifndef MAMBAD_KERNELS_REFERENCE_RMS_NORM_REF_H_
#define MAMBAD_KERNELS_REFERENCE_RMS_NORM_REF_H_

#include <cmath>
#include <cstdint>

namespace mambad::reference {

// One row; weight may be null.
template <class T>
void RmsNorm(const float* x, const float* weight, std::int64_t width, float eps, T* y) {
  T sum = 0;
  for (std::int64_t i = 0; i < width; ++i) sum += static_cast<T>(x[i]) * x[i];
  const T scale = 1 / std::sqrt(sum / width + eps);
  for (std::int64_t i = 0; i < width; ++i) y[i] = x[i] * scale * (weight != nullptr ? weight[i] : 1.0f);
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_RMS_NORM_REF_H_
