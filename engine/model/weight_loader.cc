#include "engine/model/weight_loader.h"

#include <algorithm>
#include <optional>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"
#include "kernels/random_fill/random_fill.h"

namespace mambad {

void WeightLoader::Select(std::span<const TensorSpec> specs, std::string prefix) {
  specs_ = specs;
  prefix_ = std::move(prefix);
}

// As the source knows it; *spec as the layer does.
TensorSpec WeightLoader::Find(std::string_view name, const TensorSpec** spec) const {
  const auto found = std::find_if(specs_.begin(), specs_.end(),
                                  [&](const TensorSpec& candidate) { return candidate.name == name; });
  MAMBAD_CHECK(found != specs_.end());
  TensorSpec full = *found;
  full.name = prefix_ + full.name;
  *spec = &*found;
  return full;
}

absl::StatusOr<HostTensor> WeightLoader::Load(std::string_view name, const TensorSpec** spec) {
  MAMBAD_ASSIGN_OR_RETURN(const HostTensor tensor, source_.Load(Find(name, spec)));
  if (loaded_) loaded_(tensor.elements);
  return tensor;
}

absl::StatusOr<HostTensor> WeightLoader::LoadToPack(std::string_view name, const TensorSpec** spec) {
  std::optional<kernels::RandomFillArgs> uniform = source_.Uniform(Find(name, spec));
  if (!device_.is_gpu() || !uniform) return Load(name, spec);
  absl::StatusOr<kernels::DeviceBuffer> made =
      device_.Allocate(static_cast<size_t>(uniform->elements) * sizeof(uint16_t), "staging");
  if (!made.ok()) return Load(name, spec);  // which needs less room
  made_ = *std::move(made);
  uniform->out = made_.as<uint16_t>();
  MAMBAD_RETURN_IF_ERROR(kernels::RandomFill(stream_, *uniform));
  MAMBAD_RETURN_IF_ERROR(stream_.Synchronize());
  if (loaded_) loaded_(uniform->elements);
  return HostTensor{made_.data(), kernels::DType::kBf16, uniform->elements};
}

absl::StatusOr<std::vector<float>> WeightLoader::Floats(std::string_view name) {
  const TensorSpec* spec = nullptr;
  MAMBAD_ASSIGN_OR_RETURN(const HostTensor tensor, Load(name, &spec));
  std::vector<float> values(static_cast<size_t>(tensor.elements));
  for (size_t i = 0; i < values.size(); ++i) values[i] = kernels::LoadAsFloat(tensor.data, tensor.dtype, i);
  return values;
}

absl::StatusOr<kernels::DeviceBuffer> WeightLoader::Vector(std::string_view name) {
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<float> values, Floats(name));
  return Upload(values);
}

absl::StatusOr<kernels::DeviceBuffer> WeightLoader::Upload(std::span<const float> values) {
  MAMBAD_ASSIGN_OR_RETURN(kernels::DeviceBuffer buffer, device_.Allocate(values.size_bytes(), "weights"));
  MAMBAD_RETURN_IF_ERROR(kernels::CopyToDevice(stream_, buffer.data(), values.data(), values.size_bytes()));
  device_bytes_ += buffer.bytes();
  read_bytes_ += buffer.bytes();
  return buffer;
}

absl::StatusOr<kernels::PackedLinear> WeightLoader::Matrix(std::string_view name, std::string_view bias) {
  std::vector<float> bias_values;
  if (!bias.empty()) {
    MAMBAD_ASSIGN_OR_RETURN(bias_values, Floats(bias));
  }
  const TensorSpec* spec = nullptr;
  MAMBAD_ASSIGN_OR_RETURN(const HostTensor tensor, LoadToPack(name, &spec));
  const kernels::LinearWeight weight{tensor.data, tensor.dtype, spec->shape[0], spec->shape[1],
                                     bias.empty() ? nullptr : bias_values.data()};
  MAMBAD_ASSIGN_OR_RETURN(kernels::PackedLinear packed, kernels::PackLinear(device_, weight, precision_));
  made_ = kernels::DeviceBuffer();
  device_bytes_ += packed.bytes();
  read_bytes_ += packed.read_bytes();
  return packed;
}

absl::StatusOr<kernels::Embedding> WeightLoader::Table(std::string_view name) {
  const TensorSpec* spec = nullptr;
  MAMBAD_ASSIGN_OR_RETURN(const HostTensor tensor, LoadToPack(name, &spec));
  const kernels::LinearWeight table{tensor.data, tensor.dtype, spec->shape[0], spec->shape[1], nullptr};
  MAMBAD_ASSIGN_OR_RETURN(kernels::Embedding embedding,
                          kernels::Embedding::Create(device_, table, precision_));
  made_ = kernels::DeviceBuffer();
  device_bytes_ += embedding.bytes();
  return embedding;
}

}  // namespace mambad
