// One decode step in double on the host, rounding to bf16 where the kernels do: for decode_bench.
#ifndef MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_
#define MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_

#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/bench/decode_model.cuh"
#include "kernels/reference/mamba_layer_ref.h"

namespace mambad::kernels {

class DecodeReference {
 public:
  explicit DecodeReference(const DecodeModel& model) : model_(model) {
    const auto& s = model.shape().layer;
    const auto vector = [&](const float* from, std::int64_t count) {
      return from == nullptr ? std::vector<float>() : model.Read(from, count);
    };
    for (const Layer& layer : model.layers()) {
      const MambaLayerWeights& w = layer.weights;
      layers_.push_back({.M = s.d_model,
                         .D = s.d_inner,
                         .N = s.d_state,
                         .K = s.d_conv,
                         .R = s.dt_rank,
                         .dt_bc_eps = model.shape().dt_bc_eps,
                         .norm = vector(layer.norm, s.d_model),
                         .in_proj = Floats(layer.in),
                         .x_proj = Floats(layer.x),
                         .dt_proj = Floats(layer.dt),
                         .out_proj = Floats(layer.out),
                         .in_bias = vector(w.in_bias, 2 * s.d_inner),
                         .out_bias = vector(w.out_bias, s.d_model),
                         .conv = vector(w.conv_weight, std::int64_t{s.d_conv} * s.d_inner),
                         .conv_bias = vector(w.conv_bias, s.d_inner),
                         .dt_bias = vector(w.dt_bias, s.d_inner),
                         .decay_log2 = vector(w.decay_log2, std::int64_t{s.d_state} * s.d_inner),
                         .skip = vector(w.skip, s.d_inner)});
    }
    final_norm_ = vector(model.final_norm(), s.d_model);
    embedding_ = Floats(model.embedding());
  }

  // What lies at `from` in a pool with fp32 states, as Step takes it: (layers, window and state).
  std::vector<double> Slot(const float* from) const {
    const auto& s = model_.shape().layer;
    const std::int64_t state = std::int64_t{s.d_state} * s.d_inner;
    std::vector<double> slot;
    for (int l = 0; l < model_.shape().layers; ++l, from += model_.LayerFloats()) {
      const auto* const window = reinterpret_cast<const std::uint16_t*>(from);
      for (std::int64_t i = 0; i < WindowElements(); ++i) slot.push_back(Bf16ToFloat(window[i]));
      slot.insert(slot.end(), from + model_.WindowFloats(), from + model_.WindowFloats() + state);
    }
    return slot;
  }

  // Advances `slot` and returns the logits.
  std::vector<double> Step(int token, double* slot) const {
    const auto& s = model_.shape().layer;
    const auto row = embedding_.begin() + std::int64_t{token} * s.d_model;
    std::vector<double> residual(row, row + s.d_model);
    for (const reference::MambaLayer& layer : layers_) {
      double* const state = slot + WindowElements();
      MambaLayerToken(layer, kPath, &residual, slot, state);
      slot = state + std::int64_t{s.d_state} * s.d_inner;
    }
    return reference::NormedProduct(embedding_, final_norm_, layers_[0].norm_eps, residual);
  }

 private:
  static constexpr reference::MambaLayerPath kPath = reference::MambaLayerPath::kStep;

  std::int64_t WindowElements() const { return 2 * model_.WindowFloats(); }

  static std::vector<float> Floats(const RawWeight& weight) {
    std::vector<float> values;
    for (const std::uint16_t bits : weight.values) values.push_back(Bf16ToFloat(bits));
    return values;
  }

  const DecodeModel& model_;
  std::vector<reference::MambaLayer> layers_;
  std::vector<float> embedding_;
  std::vector<float> final_norm_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_DECODE_REFERENCE_CUH_
