#include "tests/support/gpu_layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/base/dtype.h"

namespace mambad {

std::vector<float> NormalFloats(std::mt19937& random, int64_t count, float mean, float deviation) {
  std::normal_distribution<float> normal(mean, deviation);
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> NormalBf16(std::mt19937& random, int64_t count, float deviation) {
  std::vector<float> values = NormalFloats(random, count, 0, deviation);
  for (float& value : values) value = kernels::RoundToBf16(value);
  return values;
}

std::vector<int32_t> RandomSlots(std::mt19937& random, int64_t count, int32_t slots) {
  std::vector<int32_t> all(slots);
  std::iota(all.begin(), all.end(), 0);
  std::shuffle(all.begin(), all.end(), random);
  all.resize(count);
  return all;
}

GpuLayer::GpuLayer(kernels::Stream& stream, const kernels::MambaLayerShape& shape, bool biases,
                   std::mt19937& random)
    : shape_(shape) {
  const int64_t M = shape.d_model, D = shape.d_inner, N = shape.d_state, K = shape.d_conv, R = shape.dt_rank;
  const auto fan_in = [](int64_t k) { return 1 / std::sqrt(static_cast<float>(k)); };
  reference::MambaLayer& r = reference_;
  r = {.M = M, .D = D, .N = N, .K = K, .R = R, .dt_bc_eps = shape.dt_bc_eps};
  r.norm = NormalFloats(random, M, 1, 0.1f);
  r.in_proj = NormalBf16(random, 2 * D * M, fan_in(M));
  r.x_proj = NormalBf16(random, (R + 2 * N) * D, 2 * fan_in(D));
  r.dt_proj = NormalBf16(random, D * R, fan_in(R));
  r.out_proj = NormalBf16(random, M * D, fan_in(D));
  if (biases) r.in_bias = NormalFloats(random, 2 * D, 0, 0.1f);
  if (biases) r.out_bias = NormalFloats(random, M, 0, 0.1f);
  r.conv = NormalFloats(random, K * D, 0, 0.5f);
  r.conv_bias = NormalFloats(random, D, 0, 0.1f);
  r.dt_bias = NormalFloats(random, D, -2, 1);
  r.decay_log2 = NormalFloats(random, N * D, 0, 0.7f);
  for (float& decay : r.decay_log2) decay = -1.5f * std::exp(decay);
  r.skip = NormalFloats(random, D, 1, 0.2f);

  norm_weight_ = Vector(stream, r.norm);
  weights_ = {.in_proj = Matrix(stream, r.in_proj, 2 * D),
              .x_proj = Matrix(stream, r.x_proj, R + 2 * N),
              .dt_proj = Matrix(stream, r.dt_proj, D),
              .out_proj = Matrix(stream, r.out_proj, M),
              .in_bias = Vector(stream, r.in_bias),
              .conv_weight = Vector(stream, r.conv),
              .conv_bias = Vector(stream, r.conv_bias),
              .dt_bias = Vector(stream, r.dt_bias),
              .decay_log2 = Vector(stream, r.decay_log2),
              .skip = Vector(stream, r.skip),
              .out_bias = Vector(stream, r.out_bias)};
}

const float* GpuLayer::Vector(kernels::Stream& stream, const std::vector<float>& values) {
  if (values.empty()) return nullptr;
  return vectors_.emplace_back(Upload(stream, values)).as<float>();
}

kernels::PackedWeight GpuLayer::Matrix(kernels::Stream& stream, const std::vector<float>& values,
                                       int64_t rows) {
  auto packed = kernels::PackLinear(
      stream.device(),
      {.data = values.data(), .rows = rows, .cols = static_cast<int64_t>(values.size()) / rows},
      kernels::WeightPrecision::kBf16);
  MAMBAD_CHECK(packed.ok());
  return kernels::AsPackedWeight(matrices_.emplace_back(*std::move(packed)));
}

}  // namespace mambad
