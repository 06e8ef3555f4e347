// Where weights come from while a model is loaded: a checkpoint on disk, or a generator (shape:NAME models).
#ifndef MAMBAD_ENGINE_MODEL_WEIGHT_SOURCE_H_
#define MAMBAD_ENGINE_MODEL_WEIGHT_SOURCE_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/base/dtype.h"
#include "kernels/random_fill/random_fill_args.h"

namespace mambad {

// How a generator fills a tensor; of no meaning for a checkpoint. The rules follow the authors'
// initialisation, so that a random model runs as a trained one does and its states stay finite.
enum class TensorInit {
  kOnes,
  kZeros,
  kFanIn,      // uniform in +-1/sqrt(size of the last axis)
  kResidual,   // as kFanIn, divided by sqrt(2 L): what is added to the residual stream
  kEmbedding,  // uniform with a standard deviation of 0.02
  kDecay,      // A_log: log(1), ..., log(N) in every row
  kDeltaBias,  // softplus of it is log-uniform in [1e-3, 1e-1]
};

struct TensorSpec {
  std::string name;  // Hugging Face's, e.g. "backbone.layers.3.mixer.A_log"
  std::vector<int64_t> shape;
  TensorInit init = TensorInit::kFanIn;

  int64_t elements() const {
    int64_t product = 1;
    for (const int64_t extent : shape) product *= extent;
    return product;
  }
};

// A tensor in host memory (where WeightLoader says so, in a GPU's), row major, aligned to its elements.
struct HostTensor {
  const void* data = nullptr;
  kernels::DType dtype = kernels::DType::kF32;
  int64_t elements = 0;
};

// One thread at a time. Errors: INVALID_ARGUMENT naming file, tensor, expected and found.
class WeightSource {
 public:
  virtual ~WeightSource() = default;

  // OK when Load could give the tensor: there, of that shape, of a floating-point type.
  virtual absl::Status Check(const TensorSpec& spec) const = 0;
  // How a device makes the bits that Load gives (`out` is null); none: it cannot.
  virtual std::optional<kernels::RandomFillArgs> Uniform(const TensorSpec&) const { return std::nullopt; }
  // Valid until the next Load. Every value is finite.
  virtual absl::StatusOr<HostTensor> Load(const TensorSpec& spec) = 0;
  // True when the big tensors have 16 bits: what --precision auto asks for.
  virtual bool is_16_bit() const = 0;
  // Hex digest over names, types, shapes and bytes of everything loaded so far.
  virtual std::string digest() const = 0;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_WEIGHT_SOURCE_H_
