// shape:NAME models: random weights of a published model's exact shape, made in memory from a fixed seed, for
// benchmarks and load tests.
//
// Element i of a tensor is a function of (tensor, i) alone: that of kernels/random_fill with the key
// XXH3-64(tensor name). Nothing else enters, so any device makes the same bits in any order. The few tensors
// that need more than that (A_log, dt_proj.bias) are small and made on the host. All are exact in bf16: a
// shape counts as a 16-bit checkpoint.
//
// The rules of TensorInit keep every state bounded: A < 0 and the inputs of each layer are normed, so h stays
// below |delta B x| / (1 - exp(delta A)) however long it runs.
#ifndef MAMBAD_ENGINE_MODEL_RANDOM_WEIGHTS_H_
#define MAMBAD_ENGINE_MODEL_RANDOM_WEIGHTS_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/model/weight_source.h"
#include "kernels/device/thread_pool.h"

namespace mambad {

inline constexpr std::string_view kShapePrefix = "shape:";

// The config.json of a shape, in Hugging Face's form. INVALID_ARGUMENT listing the names when there is none
// such.
absl::StatusOr<std::string> ShapeConfig(std::string_view name);

class RandomWeights : public WeightSource {
 public:
  // Uses `pool` inside Load. `n_layer` scales the residual branches.
  RandomWeights(std::string shape_name, int64_t n_layer, kernels::ThreadPool* pool);

  absl::Status Check(const TensorSpec& spec) const override { return absl::OkStatus(); }
  absl::StatusOr<HostTensor> Load(const TensorSpec& spec) override;
  std::optional<kernels::RandomFillArgs> Uniform(const TensorSpec& spec) const override;
  bool is_16_bit() const override { return true; }
  std::string digest() const override;

 private:
  void Fill(const TensorSpec& spec, uint16_t* out) const;

  const std::string shape_name_;
  const int64_t n_layer_;
  kernels::ThreadPool* const pool_;
  std::vector<uint16_t> buffer_;  // bf16, of the tensor just made
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_RANDOM_WEIGHTS_H_
