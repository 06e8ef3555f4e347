#include "engine/model/random_weights.h"

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "engine/model/mixer_model.h"
#include "engine/model/model_config.h"
#include "gtest/gtest.h"
#include "kernels/base/dtype.h"

namespace mambad {
namespace {

constexpr float kPinned[] = {-0x1.8ap-9f, -0x1.d6p-9f, -0x1.d6p-7f};

std::vector<float> Make(RandomWeights& weights, const TensorSpec& spec) {
  const HostTensor tensor = *weights.Load(spec);
  std::vector<float> values(static_cast<size_t>(tensor.elements));
  for (size_t i = 0; i < values.size(); ++i) values[i] = kernels::LoadAsFloat(tensor.data, tensor.dtype, i);
  return values;
}

TEST(RandomWeightsTest, AnElementDependsOnItsTensorAndIndexAlone) {
  kernels::ThreadPool one(1);
  kernels::ThreadPool three(3);
  RandomWeights a("x", 4, &one);
  RandomWeights b("x", 4, &three);
  const TensorSpec small = {"w", {3, 7}, TensorInit::kFanIn};
  const TensorSpec large = {"w", {1001, 7}, TensorInit::kFanIn};
  const std::vector<float> from_small = Make(a, small);
  const std::vector<float> from_large = Make(b, large);
  EXPECT_EQ(from_large, Make(a, large));
  EXPECT_TRUE(std::equal(from_small.begin(), from_small.end(), from_large.begin()));
  EXPECT_NE(Make(a, {"v", {3, 7}, TensorInit::kFanIn}), from_small);
}

// A GPU must make these bits too: they are a contract.
TEST(RandomWeightsTest, ValuesArePinned) {
  kernels::ThreadPool pool(2);
  RandomWeights weights("x", 4, &pool);
  const std::vector<float> values =
      Make(weights, {"backbone.embeddings.weight", {2, 64}, TensorInit::kFanIn});
  EXPECT_EQ(values[0], kPinned[0]);
  EXPECT_EQ(values[1], kPinned[1]);
  EXPECT_EQ(values[127], kPinned[2]);
}

TEST(RandomWeightsTest, FollowsTheRules) {
  kernels::ThreadPool pool(2);
  RandomWeights weights("x", 8, &pool);
  const auto bound_of = [&](TensorInit init) {
    const std::vector<float> values = Make(weights, {"w", {400, 64}, init});
    double sum = 0;
    float largest = 0;
    for (const float value : values) {
      sum += value;
      largest = std::max(largest, std::fabs(value));
    }
    EXPECT_LT(std::fabs(sum / values.size()), 0.05 * largest);
    return largest;
  };
  EXPECT_NEAR(bound_of(TensorInit::kFanIn), 0.125f, 1e-3f);
  EXPECT_NEAR(bound_of(TensorInit::kResidual), 0.125f / 4, 1e-3f);
  for (const float bias : Make(weights, {"b", {500}, TensorInit::kDeltaBias})) {
    const float dt = std::log1p(std::exp(bias));
    EXPECT_GT(dt, 0.9e-3f);
    EXPECT_LT(dt, 1.1e-1f);
  }
  const std::vector<float> a_log = Make(weights, {"A_log", {2, 4}, TensorInit::kDecay});
  EXPECT_EQ(a_log[0], 0.0f);
  EXPECT_NEAR(a_log[7], std::log(4.0f), 4e-3f);
}

TEST(RandomWeightsTest, ShapesHaveTheParametersOfTheirNames) {
  const std::pair<std::string, double> shapes[] = {{"mamba-130m", 129.1e6}, {"mamba-370m", 371.5e6},
                                                   {"mamba-790m", 793.2e6}, {"mamba-1.4b", 1372e6},
                                                   {"mamba-2.8b", 2768e6},  {"falcon-mamba-7b", 7273e6}};
  for (const auto& [name, parameters] : shapes) {
    const absl::StatusOr<ModelPlan> plan = ModelPlan::Of(*ParseModelConfig(*ShapeConfig(name), name));
    ASSERT_TRUE(plan.ok()) << plan.status();
    EXPECT_NEAR(static_cast<double>(plan->parameters), parameters, 0.001 * parameters) << name;
  }
  EXPECT_FALSE(ShapeConfig("mamba-9b").ok());
}

}  // namespace
}  // namespace mambad
