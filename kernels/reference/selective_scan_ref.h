// The selective scan with skip and gate, the independent witness: plain loops in T, in the checkpoint's own
// layout.
#ifndef MAMBAD_KERNELS_REFERENCE_SELECTIVE_SCAN_REF_H_
#define MAMBAD_KERNELS_REFERENCE_SELECTIVE_SCAN_REF_H_

#include <cmath>
#include <cstdint>

namespace mambad::reference {

struct ScanInputs {
  const float* x;           // (tokens, D)
  const float* delta_raw;   // (tokens, D)
  const float* z;           // (tokens, D)
  const float* b;           // (tokens, N)
  const float* c;           // (tokens, N)
  const float* a_log;       // (D, N)
  const float* delta_bias;  // (D), or null
  const float* skip;        // (D)
};

// state: (N, D) in T, replaced; y: (tokens, D). The magnitudes, when not null, are what y and state would be
// if every term were positive: the scale of the rounding error bounds. state_magnitude starts as |state|.
template <class T>
void SelectiveScan(const ScanInputs& in, std::int64_t tokens, std::int64_t D, std::int64_t N, T* state, T* y,
                   T* state_magnitude = nullptr, T* y_magnitude = nullptr) {
  for (std::int64_t t = 0; t < tokens; ++t) {
    for (std::int64_t d = 0; d < D; ++d) {
      const T raw =
          static_cast<T>(in.delta_raw[t * D + d]) + (in.delta_bias != nullptr ? in.delta_bias[d] : 0.0f);
      const T delta = raw > 0 ? raw + std::log1p(std::exp(-raw)) : std::log1p(std::exp(raw));
      const T x = in.x[t * D + d];
      const T z = in.z[t * D + d];
      const T gate = z / (1 + std::exp(-z));
      T sum = in.skip[d] * x;
      T absolute = std::fabs(sum);
      for (std::int64_t n = 0; n < N; ++n) {
        const T decay = std::exp(delta * -std::exp(static_cast<T>(in.a_log[d * N + n])));
        const T input = delta * in.b[t * N + n] * x;
        T& h = state[n * D + d];
        h = decay * h + input;
        sum += in.c[t * N + n] * h;
        if (state_magnitude != nullptr) {
          T& m = state_magnitude[n * D + d];
          m = decay * m + std::fabs(input);
          absolute += std::fabs(in.c[t * N + n]) * m;
        }
      }
      y[t * D + d] = sum * gate;
      if (y_magnitude != nullptr) y_magnitude[t * D + d] = absolute * std::fabs(gate);
    }
  }
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_SELECTIVE_SCAN_REF_H_
