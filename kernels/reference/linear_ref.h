// y[r,m] = sum_k x[r,k] W[m,k] + bias[m], the independent witness: plain loops in fp64, k ascending.
// x: (rows, K), leading dimension ldx; W: (M, K) row major; bias: (M) or null; y: (rows, M), leading
// dimension ldy.
#ifndef MAMBAD_KERNELS_REFERENCE_LINEAR_REF_H_
#define MAMBAD_KERNELS_REFERENCE_LINEAR_REF_H_

#include <cmath>
#include <cstdint>

namespace mambad::reference {

// `magnitude`, when not null, gets sum_k |x[r,k] W[m,k]| + |bias[m]|: the scale of the rounding error bound.
inline void Linear(const float* x, std::int64_t ldx, const float* weight, const float* bias,
                   std::int64_t rows, std::int64_t M, std::int64_t K, double* y, std::int64_t ldy,
                   double* magnitude = nullptr) {
  for (std::int64_t r = 0; r < rows; ++r) {
    for (std::int64_t m = 0; m < M; ++m) {
      double sum = 0.0;
      double absolute = 0.0;
      for (std::int64_t k = 0; k < K; ++k) {
        const double product = double{x[r * ldx + k]} * double{weight[m * K + k]};
        sum += product;
        absolute += std::fabs(product);
      }
      if (bias != nullptr) {
        sum += bias[m];
        absolute += std::fabs(bias[m]);
      }
      y[r * ldy + m] = sum;
      if (magnitude != nullptr) magnitude[r * ldy + m] = absolute;
    }
  }
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_LINEAR_REF_H_
