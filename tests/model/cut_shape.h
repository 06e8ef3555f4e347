// The first layers of a shape:NAME model with a small vocabulary: kernels at their real widths, little
// memory.
#ifndef MAMBAD_TESTS_MODEL_CUT_SHAPE_H_
#define MAMBAD_TESTS_MODEL_CUT_SHAPE_H_

#include <cstdint>
#include <memory>
#include <string>

#include "engine/model/mixer_model.h"
#include "engine/model/random_weights.h"
#include "nlohmann/json.hpp"
#include "tests/support/test_device.h"

namespace mambad {

struct CutShape {
  static constexpr int64_t kVocab = 1000;

  std::string name;
  int64_t layers = 1;
  kernels::WeightPrecision precision = kernels::WeightPrecision::kBf16;
  kernels::DType state_dtype = kernels::DType::kF32;
};

// On the device of the tests. `source_of` makes the WeightSource from the shape's RandomWeights.
template <class SourceOf>
std::unique_ptr<MixerModel> MakeCutModel(const CutShape& shape, const ForwardLimits& limits,
                                         const SourceOf& source_of) {
  auto json = nlohmann::json::parse(ShapeConfig(shape.name).value());
  json["num_hidden_layers"] = shape.layers;
  json["vocab_size"] = CutShape::kVocab;
  json["eos_token_id"] = 0;
  const ModelConfig config = ParseModelConfig(json.dump(), shape.name).value();
  auto device =
      kernels::Device::Create(
          {.kind = TestsRunOnGpu() ? kernels::DeviceKind::kCuda : kernels::DeviceKind::kCpu, .threads = 2})
          .value();
  RandomWeights random(shape.name, shape.layers, &device->pool());
  auto&& source = source_of(random);
  return MixerModel::Create(ModelPlan::Of(config, shape.state_dtype).value(), source, std::move(device),
                            shape.precision, limits, {})
      .value();
}

inline std::unique_ptr<MixerModel> MakeCutModel(const CutShape& shape, const ForwardLimits& limits) {
  return MakeCutModel(shape, limits, [](RandomWeights& random) -> WeightSource& { return random; });
}

}  // namespace mambad

#endif  // MAMBAD_TESTS_MODEL_CUT_SHAPE_H_
