// Depthwise causal convolution, bias and SiLU, the independent witness: plain loops in T, in the checkpoint's
// own weight layout.
#ifndef MAMBAD_KERNELS_REFERENCE_CAUSAL_CONV1D_REF_H_
#define MAMBAD_KERNELS_REFERENCE_CAUSAL_CONV1D_REF_H_

#include <cmath>
#include <cstdint>
#include <vector>

namespace mambad::reference {

// x: (tokens, D), stride x_stride; weight: (D, K); bias: (D) or null; window: (K-1, D), oldest first,
// replaced; y: (tokens, D). `magnitude`, when not null, gets |bias| + sum |x w|, the scale of the rounding
// error bound.
template <class T>
void CausalConv1d(const float* x, std::int64_t x_stride, std::int64_t tokens, const float* weight,
                  const float* bias, std::int64_t D, std::int64_t K, float* window, T* y,
                  T* magnitude = nullptr) {
  std::vector<float> line(K - 1 + tokens);
  for (std::int64_t d = 0; d < D; ++d) {
    for (std::int64_t k = 0; k < K - 1; ++k) line[k] = window[k * D + d];
    for (std::int64_t t = 0; t < tokens; ++t) line[K - 1 + t] = x[t * x_stride + d];
    for (std::int64_t t = 0; t < tokens; ++t) {
      T sum = bias != nullptr ? bias[d] : 0.0f;
      T absolute = std::fabs(sum);
      for (std::int64_t k = 0; k < K; ++k) {
        const T product = static_cast<T>(line[t + k]) * weight[d * K + k];
        sum += product;
        absolute += std::fabs(product);
      }
      y[t * D + d] = sum / (1 + std::exp(-sum));
      if (magnitude != nullptr) magnitude[t * D + d] = absolute;
    }
    for (std::int64_t k = 0; k < K - 1; ++k) window[k * D + d] = line[tokens + k];
  }
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_CAUSAL_CONV1D_REF_H_
