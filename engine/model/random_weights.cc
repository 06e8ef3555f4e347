#include "engine/model/random_weights.h"

#include <xxhash.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "engine/model/digest.h"
#include "kernels/base/dtype.h"
#include "kernels/math/philox.h"
#include "kernels/random_fill/random_fill.h"

namespace mambad {
namespace {

using kernels::FloatToBf16;

struct Shape {
  std::string_view name;
  std::string_view architecture;
  int64_t n_layer;
  int64_t d_model;
  int64_t d_inner;
  int64_t dt_rank;
  int64_t vocab_size;
  bool tied;
  uint32_t eos;
};

// As published (state-spaces/mamba-*-hf and tiiuae/falcon-mamba-7b); N = 16 and K = 4 in all of them.
constexpr std::array kShapes = {
    Shape{"mamba-130m", "MambaForCausalLM", 24, 768, 1536, 48, 50280, true, 0},
    Shape{"mamba-370m", "MambaForCausalLM", 48, 1024, 2048, 64, 50280, true, 0},
    Shape{"mamba-790m", "MambaForCausalLM", 48, 1536, 3072, 96, 50280, true, 0},
    Shape{"mamba-1.4b", "MambaForCausalLM", 48, 2048, 4096, 128, 50280, true, 0},
    Shape{"mamba-2.8b", "MambaForCausalLM", 64, 2560, 5120, 160, 50280, true, 0},
    Shape{"falcon-mamba-7b", "FalconMambaForCausalLM", 64, 4096, 8192, 256, 65024, false, 11},
};

// The generation of the rules in this file: part of the digest, since a snapshot of another one is another
// model's.
constexpr int kGeneration = 1;

uint64_t KeyOf(std::string_view tensor) { return XXH3_64bits(tensor.data(), tensor.size()); }

// One word a block.
kernels::PhiloxWords Draw(uint64_t key, uint64_t block) {
  return kernels::Philox4x32({{static_cast<uint32_t>(block), static_cast<uint32_t>(block >> 32), 0, 0}},
                             static_cast<uint32_t>(key), static_cast<uint32_t>(key >> 32));
}

// The inverse of softplus at a log-uniform dt, as the authors initialise it.
void FillDeltaBias(uint64_t key, int64_t count, uint16_t* out) {
  constexpr double kLow = 1e-3;
  constexpr double kHigh = 1e-1;
  for (int64_t i = 0; i < count; ++i) {
    const double u = Draw(key, static_cast<uint64_t>(i)).w[0] * 0x1p-32;
    const double dt = std::exp(std::log(kLow) + u * (std::log(kHigh) - std::log(kLow)));
    out[i] = FloatToBf16(static_cast<float>(dt + std::log(-std::expm1(-dt))));
  }
}

}  // namespace

absl::StatusOr<std::string> ShapeConfig(std::string_view name) {
  std::string names;
  for (const Shape& shape : kShapes) {
    if (shape.name != name) {
      absl::StrAppend(&names, names.empty() ? "" : ", ", std::string(shape.name));
      continue;
    }
    const nlohmann::json config = {
        {"architectures", nlohmann::json::array({std::string(shape.architecture)})},
        {"vocab_size", shape.vocab_size},
        {"hidden_size", shape.d_model},
        {"num_hidden_layers", shape.n_layer},
        {"intermediate_size", shape.d_inner},
        {"state_size", 16},
        {"conv_kernel", 4},
        {"time_step_rank", shape.dt_rank},
        {"layer_norm_epsilon", 1e-5},
        {"mixer_rms_eps", 1e-6},
        {"tie_word_embeddings", shape.tied},
        {"eos_token_id", shape.eos},
    };
    return config.dump();
  }
  return absl::InvalidArgumentError(
      absl::StrCat(std::string(kShapePrefix), Printable(name), ": no such shape; there are ", names));
}

RandomWeights::RandomWeights(std::string shape_name, int64_t n_layer, kernels::ThreadPool* pool)
    : shape_name_(std::move(shape_name)), n_layer_(n_layer), pool_(pool) {}

std::optional<kernels::RandomFillArgs> RandomWeights::Uniform(const TensorSpec& spec) const {
  float bound = 1.0f / std::sqrt(static_cast<float>(spec.shape.back()));
  switch (spec.init) {
    case TensorInit::kEmbedding:
      bound = 0.02f * std::sqrt(3.0f);
      break;
    case TensorInit::kResidual:
      bound /= std::sqrt(2.0f * static_cast<float>(n_layer_));
      break;
    case TensorInit::kFanIn:
      break;
    default:
      return std::nullopt;
  }
  return kernels::RandomFillArgs{.key = KeyOf(spec.name), .bound = bound, .elements = spec.elements()};
}

void RandomWeights::Fill(const TensorSpec& spec, uint16_t* out) const {
  const int64_t count = spec.elements();
  if (std::optional<kernels::RandomFillArgs> uniform = Uniform(spec)) {
    uniform->out = out;
    return kernels::RandomFillOnHost(*pool_, *uniform);
  }
  switch (spec.init) {
    case TensorInit::kOnes:
      std::fill_n(out, count, FloatToBf16(1.0f));
      break;
    case TensorInit::kDecay:
      for (int64_t i = 0; i < count; ++i)
        out[i] = FloatToBf16(static_cast<float>(std::log(1.0 + static_cast<double>(i % spec.shape.back()))));
      break;
    case TensorInit::kDeltaBias:
      FillDeltaBias(KeyOf(spec.name), count, out);
      break;
    default:  // kZeros
      std::fill_n(out, count, uint16_t{0});
  }
}

absl::StatusOr<HostTensor> RandomWeights::Load(const TensorSpec& spec) {
  const size_t count = static_cast<size_t>(spec.elements());
  if (buffer_.size() < count) buffer_ = std::vector<uint16_t>(count);
  Fill(spec, buffer_.data());
  return HostTensor{buffer_.data(), kernels::DType::kBf16, spec.elements()};
}

std::string RandomWeights::digest() const {
  Digest digest;
  digest.Add(absl::StrCat(std::string(kShapePrefix), shape_name_, ", generation ", kGeneration));
  return digest.Hex();
}

}  // namespace mambad
