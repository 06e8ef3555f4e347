// A Mamba layer of random weights on host and device, and its prompt pass in plain fp64 loops: for
// prompt_bench.
#ifndef MAMBAD_KERNELS_BENCH_PROMPT_REFERENCE_CUH_
#define MAMBAD_KERNELS_BENCH_PROMPT_REFERENCE_CUH_

#include <cuda_bf16.h>
#include <cuda_runtime.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <vector>

#include "kernels/linear/gpu_layout.h"
#include "kernels/mamba_layer/mamba_layer_weights.h"

namespace {

using namespace mambad::kernels;

void Must(int error, const char* what) {
  if (error == 0) return;
  std::fprintf(stderr, "%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(error)));
  std::exit(3);
}
#define MUST(call) Must(call, #call)

std::uint64_t Mix(std::uint64_t x) {
  x += 0x9e3779b97f4a7c15ull;
  x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9ull;
  x = (x ^ (x >> 27)) * 0x94d049bb133111ebull;
  return x ^ (x >> 31);
}
struct Random {
  std::uint64_t state;
  double Uniform() { return (Mix(state++) >> 11) * 0x1p-53; }
  double Normal() {
    double s = 0;
    for (int i = 0; i < 12; ++i) s += Uniform();
    return s - 6;
  }
  int Below(int n) { return static_cast<int>(Uniform() * n); }
};
float Bf16(double v) { return __bfloat162float(__float2bfloat16_rn(static_cast<float>(v))); }

template <class T>
T* Upload(const std::vector<T>& v) {
  T* p = nullptr;
  MUST(cudaMalloc(&p, std::max<std::size_t>(v.size(), 1) * sizeof(T)));
  MUST(cudaMemcpy(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice));
  return p;
}
template <class T>
std::vector<T> Download(const T* p, std::size_t n) {
  std::vector<T> v(n);
  MUST(cudaMemcpy(v.data(), p, n * sizeof(T), cudaMemcpyDeviceToHost));
  return v;
}

// A matrix in host memory (rows x cols), already rounded to bf16.
struct Matrix {
  std::int64_t rows, cols;
  std::vector<float> v;
  double Dot(std::int64_t row, const double* x) const {
    double s = 0;
    for (std::int64_t k = 0; k < cols; ++k) s += static_cast<double>(v[row * cols + k]) * x[k];
    return s;
  }
};
Matrix RandomMatrix(Random& random, std::int64_t rows, std::int64_t cols, double scale) {
  Matrix m{rows, cols, std::vector<float>(rows * cols)};
  for (float& w : m.v) w = Bf16(random.Normal() * scale);
  return m;
}
PackedWeight Pack(const Matrix& m) {
  PackedWeight w{nullptr, static_cast<std::int32_t>(m.rows), static_cast<std::int32_t>(m.cols)};
  std::vector<__nv_bfloat16> packed(PackedElements(m.rows, m.cols), __float2bfloat16_rn(0.0f));
  for (std::int32_t r = 0; r < w.rows; ++r) {
    for (std::int32_t k = 0; k < w.cols; ++k) {
      packed[WeightIndex(r, k, w.k_pad())] =
          __float2bfloat16_rn(m.v[static_cast<std::int64_t>(r) * m.cols + k]);
    }
  }
  w.data = reinterpret_cast<const std::uint16_t*>(Upload(packed));
  return w;
}

// ---- The small layer of the checks, in host memory, and its fp64 reference.

constexpr float kNormEps = 1e-5f;

struct HostLayer {
  MambaLayerShape shape;
  Matrix in_proj, x_proj, dt_proj, out_proj;
  std::vector<float> norm, in_bias, conv, conv_bias, dt_bias, decay, skip, out_bias;
};

HostLayer MakeLayer(const MambaLayerShape& s, bool bias, Random& random) {
  HostLayer l;
  l.shape = s;
  l.in_proj = RandomMatrix(random, 2 * s.d_inner, s.d_model, 1 / std::sqrt(s.d_model));
  l.x_proj = RandomMatrix(random, s.dt_rank + 2 * s.d_state, s.d_inner, 2 / std::sqrt(s.d_inner));
  l.dt_proj = RandomMatrix(random, s.d_inner, s.dt_rank, 1 / std::sqrt(s.dt_rank));
  l.out_proj = RandomMatrix(random, s.d_model, s.d_inner, 1 / std::sqrt(s.d_inner));
  const auto fill = [&](std::vector<float>& v, std::int64_t n, double mean, double deviation) {
    v.resize(n);
    for (float& x : v) x = static_cast<float>(mean + deviation * random.Normal());
  };
  fill(l.norm, s.d_model, 1, 0.1);
  fill(l.conv, s.d_conv * s.d_inner, 0, 0.5);
  fill(l.conv_bias, s.d_inner, 0, 0.1);
  fill(l.dt_bias, s.d_inner, -2, 1);
  fill(l.skip, s.d_inner, 1, 0.2);
  l.decay.resize(s.d_state * s.d_inner);
  for (float& a : l.decay) a = static_cast<float>(-std::exp(random.Normal() * 0.7) * 1.4426950408889634);
  if (bias) {
    fill(l.in_bias, 2 * s.d_inner, 0, 0.1);
    fill(l.out_bias, s.d_model, 0, 0.1);
  }
  return l;
}

MambaLayerWeights UploadLayer(const HostLayer& l) {
  const auto vector = [](const std::vector<float>& v) { return v.empty() ? nullptr : Upload(v); };
  MambaLayerWeights w;
  w.in_proj = Pack(l.in_proj);
  w.in_bias = vector(l.in_bias);
  w.conv_weight = vector(l.conv);
  w.conv_bias = vector(l.conv_bias);
  w.x_proj = Pack(l.x_proj);
  w.dt_proj = Pack(l.dt_proj);
  w.dt_bias = vector(l.dt_bias);
  w.decay_log2 = vector(l.decay);
  w.skip = vector(l.skip);
  w.out_proj = Pack(l.out_proj);
  w.out_bias = vector(l.out_bias);
  return w;
}

double Silu(double v) { return v / (1 + std::exp(-v)); }
void NormInPlace(double* v, std::int64_t n, double eps) {
  double s = 0;
  for (std::int64_t i = 0; i < n; ++i) s += v[i] * v[i];
  for (std::int64_t i = 0; i < n; ++i) v[i] *= 1 / std::sqrt(s / n + eps);
}

// One session's tokens, rounding to bf16 where the path does.
void Reference(const HostLayer& l, std::int64_t tokens, double* residual, double* window, double* state) {
  const auto& s = l.shape;
  const std::int64_t M = s.d_model, D = s.d_inner, N = s.d_state, K = s.d_conv, R = s.dt_rank;
  for (std::int64_t t = 0; t < tokens; ++t) {
    double* row = residual + t * M;
    std::vector<double> u(row, row + M), x_in(D), z(D), x(D), dtbc(R + 2 * N), y(D);
    NormInPlace(u.data(), M, kNormEps);
    for (std::int64_t i = 0; i < M; ++i) u[i] = Bf16(u[i] * l.norm[i]);
    for (std::int64_t d = 0; d < 2 * D; ++d) {
      const double v = l.in_proj.Dot(d, u.data()) + (l.in_bias.empty() ? 0 : l.in_bias[d]);
      (d < D ? x_in[d] : z[d - D]) = Bf16(v);
    }
    for (std::int64_t d = 0; d < D; ++d) {
      double sum = l.conv_bias[d];
      for (std::int64_t k = 0; k < K; ++k)
        sum += l.conv[k * D + d] * (k + 1 < K ? window[k * D + d] : x_in[d]);
      for (std::int64_t k = 0; k + 2 < K; ++k) window[k * D + d] = window[(k + 1) * D + d];
      if (K > 1) window[(K - 2) * D + d] = x_in[d];
      x[d] = Bf16(Silu(sum));
    }
    for (std::int64_t i = 0; i < R + 2 * N; ++i) dtbc[i] = l.x_proj.Dot(i, x.data());
    if (s.dt_bc_eps >= 0) {
      NormInPlace(dtbc.data(), R, s.dt_bc_eps);
      NormInPlace(dtbc.data() + R, N, s.dt_bc_eps);
      NormInPlace(dtbc.data() + R + N, N, s.dt_bc_eps);
    }
    for (std::int64_t i = 0; i < R; ++i) dtbc[i] = Bf16(dtbc[i]);
    for (std::int64_t d = 0; d < D; ++d) {
      const double delta = std::log1p(std::exp(l.dt_proj.Dot(d, dtbc.data()) + l.dt_bias[d]));
      double sum = l.skip[d] * x[d];
      for (std::int64_t n = 0; n < N; ++n) {
        double& h = state[n * D + d];
        h = std::exp2(delta * l.decay[n * D + d]) * h + delta * x[d] * dtbc[R + n];
        sum += dtbc[R + N + n] * h;
      }
      y[d] = Bf16(sum * Silu(z[d]));
    }
    for (std::int64_t i = 0; i < M; ++i) {
      row[i] += l.out_proj.Dot(i, y.data()) + (l.out_bias.empty() ? 0 : l.out_bias[i]);
    }
  }
}

}  // namespace

#endif  // MAMBAD_KERNELS_BENCH_PROMPT_REFERENCE_CUH_
