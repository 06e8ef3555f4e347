// Times the linear op at the shapes of a model and prints each as a fraction of the measured roof.
//
//   linear_bench [f32|bf16] [threads] [rows,rows,...] [d_model]
//
// A pass uses one copy of the weight per layer, so that a small batch reads memory and not a cache, as a
// forward pass does (the head, one copy, partly stays in a large L3). A row of "model" sums one pass over all
// layers and the head.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

#include "kernels/base/check.h"
#include "kernels/bench/best_of.h"
#include "kernels/bench/roof.h"
#include "kernels/linear/linear.h"

namespace mambad::kernels {
namespace {

constexpr double kBudgetSeconds = 0.3;  // per shape and row count

// fp32 FMA throughput with independent register chains, in GFLOP/s of all threads; 0 without AVX2.
#if defined(__x86_64__)
constexpr int kFmaRounds = 500'000;

__attribute__((target("avx2,fma"))) float FmaChains() {
  constexpr int kChains = 12;
  __m256 acc[kChains];
  for (int i = 0; i < kChains; ++i) acc[i] = _mm256_set1_ps(1.0f + i);
  const __m256 scale = _mm256_set1_ps(0.999f);
  const __m256 shift = _mm256_set1_ps(0.5f);
  for (int n = 0; n < kFmaRounds; ++n) {
#pragma GCC unroll 12
    for (int i = 0; i < kChains; ++i) acc[i] = _mm256_fmadd_ps(acc[i], scale, shift);
  }
  float sum = 0;
  for (int i = 0; i < kChains; ++i) sum += acc[i][0];
  return sum;
}

double FmaPeak(Device& device) {
  if (!Supported(CpuPath::kAvx2)) return 0;
  const double best = BestOf(0.1, [&](int) {
    std::vector<float> sinks(device.pool().threads());
    device.pool().Run([&](int worker, int) { sinks[worker] = FmaChains(); });
    MAMBAD_CHECK(sinks[0] > 0);
  });
  return 12.0 * 8 * 2 * kFmaRounds * device.pool().threads() / best * 1e-9;
}
#else
double FmaPeak(Device&) { return 0; }
#endif

struct Shape {
  const char* name;
  std::int64_t M, K;
  int per_model;  // uses in one forward pass
};

struct Options {
  WeightPrecision precision = WeightPrecision::kBf16;
  int threads = 0;
  std::vector<std::int64_t> rows = {1, 4, 16, 64, 512};
  std::int64_t d_model = 768;
};

Options Parse(int argc, char** argv) {
  Options options;
  if (argc > 1 && std::strcmp(argv[1], "f32") == 0) options.precision = WeightPrecision::kF32;
  if (argc > 2) options.threads = std::atoi(argv[2]);
  if (argc > 3) {
    options.rows.clear();
    for (char* p = argv[3]; *p != '\0';) {
      options.rows.push_back(std::strtoll(p, &p, 10));
      if (*p == ',') ++p;
    }
  }
  if (argc > 4) options.d_model = std::atoll(argv[4]);
  return options;
}

// Seconds per use, at best, of one pass over all copies.
double SecondsPerUse(Stream& stream, const std::vector<PackedLinear>& copies, std::int64_t rows,
                     const std::vector<float>& x, std::vector<float>& y) {
  const double seconds = BestOf(kBudgetSeconds, [&](int) {
    for (const PackedLinear& weight : copies) {
      const LinearArgs args = {
          .x = x.data(), .ldx = weight.cols(), .y = y.data(), .ldy = weight.rows(), .rows = rows};
      MAMBAD_CHECK(Linear(stream, weight, args).ok());
    }
  });
  return seconds / copies.size();
}

void Main(const Options& options) {
  const auto device = Device::Create({.threads = options.threads}).value();
  const auto stream = Stream::Create(*device).value();
  const double roof = MeasureReadRoof(*device).value();
  const double peak = FmaPeak(*device);
  const char* precision = options.precision == WeightPrecision::kF32 ? "f32" : "bf16";
  std::printf("%s %s, %d threads: read roof %.1f GB/s, fp32 FMA peak %.0f GFLOP/s\n",
              device->Architecture().c_str(), precision, device->pool().threads(), roof, peak);

  const std::int64_t M = options.d_model, D = 2 * M, R = M / 16, N = 16, V = 50280;
  const Shape shapes[] = {{"in_proj", 2 * D, M, 24},
                          {"x_proj", R + 2 * N, D, 24},
                          {"dt_proj", D, R, 24},
                          {"out_proj", M, D, 24},
                          {"head", V, M, 1}};
  std::vector<double> model_seconds(options.rows.size()), model_bytes(options.rows.size()),
      model_flops(options.rows.size());
  for (const Shape& shape : shapes) {
    const std::vector<float> data(shape.M * shape.K, 0.01f);
    std::vector<PackedLinear> copies;
    for (int i = 0; i < shape.per_model; ++i) {
      copies.push_back(
          PackLinear(*device, {.data = data.data(), .rows = shape.M, .cols = shape.K}, options.precision)
              .value());
    }
    for (std::size_t b = 0; b < options.rows.size(); ++b) {
      const std::int64_t rows = options.rows[b];
      const std::vector<float> x(rows * shape.K, 0.5f);
      std::vector<float> y(rows * shape.M);
      const double flops = 2.0 * rows * shape.M * shape.K;
      const double bytes = copies[0].bytes();
      const double seconds = SecondsPerUse(*stream, copies, rows, x, y);
      model_seconds[b] += seconds * shape.per_model;
      model_bytes[b] += bytes * shape.per_model;
      model_flops[b] += flops * shape.per_model;
      std::printf(
          "%-9s %6ld x %-5ld rows %4ld  %9.1f us  %6.1f GB/s (%3.0f%% of roof)  %6.1f GFLOP/s (%3.0f%% of "
          "peak)\n",
          shape.name, static_cast<long>(shape.M), static_cast<long>(shape.K), static_cast<long>(rows),
          seconds * 1e6, bytes / seconds * 1e-9, bytes / seconds * 1e-7 / roof, flops / seconds * 1e-9,
          peak > 0 ? flops / seconds * 1e-7 / peak : 0.0);
    }
  }
  for (std::size_t b = 0; b < options.rows.size(); ++b) {
    std::printf(
        "model, rows %4ld  %9.2f ms  %8.1f rows/s  %6.1f GB/s (%3.0f%% of roof)  %6.1f GFLOP/s (%3.0f%% of "
        "peak)\n",
        static_cast<long>(options.rows[b]), model_seconds[b] * 1e3, options.rows[b] / model_seconds[b],
        model_bytes[b] / model_seconds[b] * 1e-9, model_bytes[b] / model_seconds[b] * 1e-7 / roof,
        model_flops[b] / model_seconds[b] * 1e-9,
        peak > 0 ? model_flops[b] / model_seconds[b] * 1e-7 / peak : 0.0);
  }
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) {
  mambad::kernels::Main(mambad::kernels::Parse(argc, argv));
  return 0;
}
