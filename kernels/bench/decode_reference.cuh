// One decode step in double on the host, rounding to bf16 where the kernels do: for decode_bench.
#ifndef MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_
#define MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_

#include <cmath>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/bench/decode_model.cuh"

namespace mambad::kernels {

inline double Bf16(double v) { return RoundToBf16(static_cast<float>(v)); }
inline double SiluOf(double v) { return v / (1.0 + std::exp(-v)); }

class DecodeReference {
 public:
  explicit DecodeReference(const DecodeModel& model) : model_(model) {
    const auto& s = model.shape().layer;
    for (const Layer& layer : model.layers()) {
      const MambaLayerWeights& w = layer.weights;
      vectors_.push_back(
          {.norm = model.Read(layer.norm, s.d_model),
           .in_bias = w.in_bias ? model.Read(w.in_bias, 2 * s.d_inner) : std::vector<float>(2 * s.d_inner),
           .conv = model.Read(w.conv_weight, std::int64_t{s.d_conv} * s.d_inner),
           .conv_bias = model.Read(w.conv_bias, s.d_inner),
           .dt_bias = model.Read(w.dt_bias, s.d_inner),
           .decay = model.Read(w.decay_log2, std::int64_t{s.d_state} * s.d_inner),
           .skip = model.Read(w.skip, s.d_inner),
           .out_bias = w.out_bias ? model.Read(w.out_bias, s.d_model) : std::vector<float>(s.d_model)});
    }
    final_norm_ = model.Read(model.final_norm(), s.d_model);
  }

  // Advances `slot` (all layers: window, state) and returns the logits.
  std::vector<double> Step(int token, double* slot) const {
    const auto& shape = model_.shape();
    const auto& s = shape.layer;
    const int D = s.d_inner, M = s.d_model, N = s.d_state, K = s.d_conv, R = s.dt_rank;
    std::vector<double> residual(M);
    for (int m = 0; m < M; ++m)
      residual[m] = Bf16ToFloat(model_.embedding().values[std::int64_t{token} * M + m]);
    for (int l = 0; l < shape.layers; ++l) {
      const Layer& layer = model_.layers()[l];
      const Vectors& v = vectors_[l];
      double* window = slot + l * model_.LayerFloats();
      double* state = window + std::int64_t{K - 1} * D;
      std::vector<double> xz = Normed(layer.in, residual, v.norm);
      std::vector<double> x(D), gate(D), y(D);
      for (int d = 0; d < D; ++d) {
        const double in = Bf16(xz[d] + v.in_bias[d]);
        gate[d] = Bf16(SiluOf(xz[D + d] + v.in_bias[D + d]));
        double sum = v.conv_bias[d] + in * v.conv[(K - 1) * D + d];
        for (int k = 0; k < K - 1; ++k) sum += window[k * D + d] * v.conv[k * D + d];
        for (int k = 0; k + 2 < K; ++k) window[k * D + d] = window[(k + 1) * D + d];
        if (K > 1) window[(K - 2) * D + d] = in;
        x[d] = Bf16(SiluOf(sum));
      }
      std::vector<double> dt_bc = Product(layer.x, x);
      double scale[3] = {1, 1, 1};
      if (shape.dt_bc_eps >= 0) {
        const int begin[] = {0, R, R + N, R + 2 * N};
        for (int i = 0; i < 3; ++i) {
          double squares = 0;
          for (int k = begin[i]; k < begin[i + 1]; ++k) squares += dt_bc[k] * dt_bc[k];
          scale[i] = 1 / std::sqrt(squares / (begin[i + 1] - begin[i]) + shape.dt_bc_eps);
        }
      }
      std::vector<double> dt(R);
      for (int k = 0; k < R; ++k) dt[k] = Bf16(dt_bc[k]);
      const std::vector<double> raw = Product(layer.dt, dt);
      for (int d = 0; d < D; ++d) {
        const double delta = std::log1p(std::exp(raw[d] * scale[0] + v.dt_bias[d]));
        double sum = 0;
        for (int n = 0; n < N; ++n) {
          double& h = state[n * D + d];
          h = std::exp2(delta * v.decay[n * D + d]) * h + delta * x[d] * dt_bc[R + n] * scale[1];
          sum += h * dt_bc[R + N + n] * scale[2];
        }
        y[d] = Bf16((sum + v.skip[d] * x[d]) * gate[d]);
      }
      const std::vector<double> out = Product(layer.out, y);
      for (int m = 0; m < M; ++m) residual[m] += out[m] + v.out_bias[m];
    }
    return Normed(model_.embedding(), residual, final_norm_);
  }

 private:
  struct Vectors {
    std::vector<float> norm, in_bias, conv, conv_bias, dt_bias, decay, skip, out_bias;
  };
  static std::vector<double> Product(const RawWeight& w, const std::vector<double>& x) {
    std::vector<double> y(w.rows);
    for (int m = 0; m < w.rows; ++m) {
      double sum = 0;
      for (int k = 0; k < w.cols; ++k) sum += x[k] * Bf16ToFloat(w.values[std::int64_t{m} * w.cols + k]);
      y[m] = sum;
    }
    return y;
  }
  static std::vector<double> Normed(const RawWeight& w, const std::vector<double>& x,
                                    const std::vector<float>& norm) {
    double squares = 0;
    std::vector<double> u(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) squares += x[i] * x[i], u[i] = Bf16(x[i] * norm[i]);
    std::vector<double> y = Product(w, u);
    for (double& v : y) v /= std::sqrt(squares / static_cast<double>(x.size()) + 1e-5);
    return y;
  }

  const DecodeModel& model_;
  std::vector<Vectors> vectors_;
  std::vector<float> final_norm_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_
