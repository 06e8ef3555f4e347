// WeightLoader: hands a layer its tensors, packed for the device, while it binds. It knows the tensors by
// their specs, so that what a layer declares and what it takes cannot differ.
#ifndef MAMBAD_ENGINE_MODEL_WEIGHT_LOADER_H_
#define MAMBAD_ENGINE_MODEL_WEIGHT_LOADER_H_

#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/weight_source.h"
#include "kernels/device/stream.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"

namespace mambad {

// One thread at a time. Errors are those of the source and of the device's memory.
class WeightLoader {
 public:
  // Borrows all of them. `loaded` is called with the elements of each tensor taken.
  WeightLoader(WeightSource& source, kernels::Device& device, kernels::Stream& stream,
               kernels::WeightPrecision precision, std::function<void(int64_t elements)> loaded)
      : source_(source),
        device_(device),
        stream_(stream),
        precision_(precision),
        loaded_(std::move(loaded)) {}

  // The specs that the following calls may name, and the prefix that they leave out.
  void Select(std::span<const TensorSpec> specs, std::string prefix);

  // All elements, widened, in host memory.
  absl::StatusOr<std::vector<float>> Floats(std::string_view name);
  // The same on the device.
  absl::StatusOr<kernels::DeviceBuffer> Vector(std::string_view name);
  absl::StatusOr<kernels::DeviceBuffer> Upload(std::span<const float> values);
  // A matrix (out, in). `bias` names a vector (out); empty: none.
  absl::StatusOr<kernels::PackedLinear> Matrix(std::string_view name, std::string_view bias = {});
  absl::StatusOr<kernels::Embedding> Table(std::string_view name);

  kernels::Device& device() const { return device_; }
  kernels::WeightPrecision precision() const { return precision_; }
  // Bytes of everything handed out, padding included.
  uint64_t device_bytes() const { return device_bytes_; }
  // Bytes that one use of all vectors and matrices reads: no padding, no tables.
  uint64_t read_bytes() const { return read_bytes_; }

 private:
  TensorSpec Find(std::string_view name, const TensorSpec** spec) const;
  absl::StatusOr<HostTensor> Load(std::string_view name, const TensorSpec** spec);
  // The same to be packed: what a GPU can make itself lies in its memory.
  absl::StatusOr<HostTensor> LoadToPack(std::string_view name, const TensorSpec** spec);

  WeightSource& source_;
  kernels::Device& device_;
  kernels::Stream& stream_;
  const kernels::WeightPrecision precision_;
  const std::function<void(int64_t)> loaded_;
  std::span<const TensorSpec> specs_;
  std::string prefix_;
  uint64_t device_bytes_ = 0;
  uint64_t read_bytes_ = 0;
  kernels::DeviceBuffer made_;  // the tensor that the GPU has made, until it is packed
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_WEIGHT_LOADER_H_
