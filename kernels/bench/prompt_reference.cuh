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
#include "kernels/reference/mamba_layer_ref.h"

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

// One session's tokens, rounding to bf16 where the path does.
void Reference(const HostLayer& l, std::int64_t tokens, double* residual, double* window, double* state) {
  const auto& s = l.shape;
  const mambad::reference::MambaLayer layer = {.M = s.d_model,
                                               .D = s.d_inner,
                                               .N = s.d_state,
                                               .K = s.d_conv,
                                               .R = s.dt_rank,
                                               .norm_eps = kNormEps,
                                               .dt_bc_eps = s.dt_bc_eps,
                                               .norm = l.norm,
                                               .in_proj = l.in_proj.v,
                                               .x_proj = l.x_proj.v,
                                               .dt_proj = l.dt_proj.v,
                                               .out_proj = l.out_proj.v,
                                               .in_bias = l.in_bias,
                                               .out_bias = l.out_bias,
                                               .conv = l.conv,
                                               .conv_bias = l.conv_bias,
                                               .dt_bias = l.dt_bias,
                                               .decay_log2 = l.decay,
                                               .skip = l.skip};
  for (std::int64_t t = 0; t < tokens; ++t) {
    double* const row = residual + t * s.d_model;
    std::vector<double> token(row, row + s.d_model);
    MambaLayerToken(layer, mambad::reference::MambaLayerPath::kPrompt, &token, window, state);
    std::copy(token.begin(), token.end(), row);
  }
}

}  // namespace

#endif  // MAMBAD_KERNELS_BENCH_PROMPT_REFERENCE_CUH_
