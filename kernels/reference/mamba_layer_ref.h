// One token through one Mamba layer, norm and residual sum included, as the fused kernels of a GPU round it:
// the independent witness in plain fp64 loops. Weights are row major and hold bf16 values; formulas as in
// mamba_layer/mamba_layer_step.h and mamba_layer_prompt.h.
#ifndef MAMBAD_KERNELS_REFERENCE_MAMBA_LAYER_REF_H_
#define MAMBAD_KERNELS_REFERENCE_MAMBA_LAYER_REF_H_

#include <bit>
#include <cmath>
#include <cstdint>
#include <tuple>
#include <vector>

namespace mambad::reference {

inline double RoundedToBf16(double value) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value));
  bits += 0x7fffu + (bits >> 16 & 1u);
  return std::bit_cast<float>(bits & 0xffff0000u);
}

// With the 11 bits that a tensor core product of tf32 looks at: rounded half away from zero, or cut off.
inline double RoundedToTf32(double value) {
  const std::uint32_t bits = std::bit_cast<std::uint32_t>(static_cast<float>(value)) + 0x1000u;
  return std::bit_cast<float>(bits & ~0x1fffu);
}
inline double CutToTf32(double value) {
  return std::bit_cast<float>(std::bit_cast<std::uint32_t>(static_cast<float>(value)) & ~0x1fffu);
}

inline double Silu(double value) { return value / (1 + std::exp(-value)); }

struct MambaLayer {
  std::int64_t M = 0, D = 0, N = 0, K = 0, R = 0;
  double norm_eps = 1e-5;
  double dt_bc_eps = -1;    // negative: no norms on dt, B and C
  std::vector<float> norm;  // (M)
  std::vector<float> in_proj, x_proj, dt_proj, out_proj;
  std::vector<float> in_bias, out_bias;          // or empty
  std::vector<float> conv, conv_bias;            // (K, D), (D)
  std::vector<float> dt_bias, decay_log2, skip;  // (D), (N, D), (D)
};

// Where the two paths round differently: a decode step rounds the gate rather than z, and divides by a
// FalconMamba norm's root mean square after the product whose inputs it rounds; a prompt reads 16 states out
// by a product of tf32.
enum class MambaLayerPath { kStep, kPrompt };

namespace mamba_layer_ref {

inline std::vector<double> Product(const std::vector<float>& weight, const std::vector<double>& x) {
  const std::size_t cols = x.size();
  std::vector<double> y(weight.size() / cols);
  for (std::size_t m = 0; m < y.size(); ++m) {
    for (std::size_t k = 0; k < cols; ++k) y[m] += double{weight[m * cols + k]} * x[k];
  }
  return y;
}

inline double InverseRootMeanSquare(const double* x, std::int64_t count, double eps) {
  double squares = 0;
  for (std::int64_t i = 0; i < count; ++i) squares += x[i] * x[i];
  return 1 / std::sqrt(squares / static_cast<double>(count) + eps);
}

inline double At(const std::vector<float>& bias, std::int64_t i) { return bias.empty() ? 0.0 : bias[i]; }

}  // namespace mamba_layer_ref

// weight * rms_norm(x): a layer's first product, and the head's. Divided by the root mean square at last.
inline std::vector<double> NormedProduct(const std::vector<float>& weight, const std::vector<float>& norm,
                                         double eps, const std::vector<double>& x) {
  const auto count = static_cast<std::int64_t>(x.size());
  const double scale = mamba_layer_ref::InverseRootMeanSquare(x.data(), count, eps);
  std::vector<double> u(x.size());
  for (std::size_t i = 0; i < x.size(); ++i) u[i] = RoundedToBf16(x[i] * norm[i]);
  std::vector<double> y = mamba_layer_ref::Product(weight, u);
  for (double& value : y) value *= scale;
  return y;
}

// Advances `residual` (M), `window` (K-1, D) and `state` (N, D).
inline void MambaLayerToken(const MambaLayer& l, MambaLayerPath path, std::vector<double>* residual,
                            double* window, double* state) {
  using namespace mamba_layer_ref;
  const bool step = path == MambaLayerPath::kStep;
  const auto [M, D, N, K, R] = std::tuple(l.M, l.D, l.N, l.K, l.R);
  const std::vector<double> xz = NormedProduct(l.in_proj, l.norm, l.norm_eps, *residual);
  std::vector<double> x(D), gate(D), y(D);
  for (std::int64_t d = 0; d < D; ++d) {
    const double in = RoundedToBf16(xz[d] + At(l.in_bias, d));
    const double z = xz[D + d] + At(l.in_bias, D + d);
    gate[d] = step ? RoundedToBf16(Silu(z)) : Silu(RoundedToBf16(z));
    double sum = At(l.conv_bias, d) + in * l.conv[(K - 1) * D + d];
    for (std::int64_t k = 0; k < K - 1; ++k) sum += window[k * D + d] * l.conv[k * D + d];
    for (std::int64_t k = 0; k + 2 < K; ++k) window[k * D + d] = window[(k + 1) * D + d];
    if (K > 1) window[(K - 2) * D + d] = in;
    x[d] = RoundedToBf16(Silu(sum));
  }
  std::vector<double> dt_bc = Product(l.x_proj, x);
  double scale[3] = {1, 1, 1};  // of dt, B, C
  const std::int64_t begin[] = {0, R, R + N, R + 2 * N};
  for (int i = 0; i < 3 && l.dt_bc_eps >= 0; ++i) {
    scale[i] = InverseRootMeanSquare(dt_bc.data() + begin[i], begin[i + 1] - begin[i], l.dt_bc_eps);
  }
  std::vector<double> dt(R);
  for (std::int64_t r = 0; r < R; ++r) dt[r] = RoundedToBf16(dt_bc[r] * (step ? 1 : scale[0]));
  const std::vector<double> raw = Product(l.dt_proj, dt);
  for (std::int64_t d = 0; d < D; ++d) {
    const double delta = std::log1p(std::exp(raw[d] * (step ? scale[0] : 1) + l.dt_bias[d]));
    double sum = l.skip[d] * x[d];
    for (std::int64_t n = 0; n < N; ++n) {
      double& h = state[n * D + d];
      h = std::exp2(delta * l.decay_log2[n * D + d]) * h + delta * x[d] * dt_bc[R + n] * scale[1];
      const double c = dt_bc[R + N + n] * scale[2];
      sum += !step && N == 16 ? CutToTf32(h) * RoundedToTf32(c) : h * c;
    }
    y[d] = RoundedToBf16(sum * gate[d]);
  }
  const std::vector<double> out = Product(l.out_proj, y);
  for (std::int64_t m = 0; m < M; ++m) (*residual)[m] += out[m] + At(l.out_bias, m);
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_MAMBA_LAYER_REF_H_
