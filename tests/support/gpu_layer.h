// A Mamba layer of random weights: on a GPU as the fused kernels take it, and as the fp64 reference takes it.
// With what tests of those kernels share: arrays on the device, and pools of slots that show every stray
// write.
#ifndef MAMBAD_TESTS_SUPPORT_GPU_LAYER_H_
#define MAMBAD_TESTS_SUPPORT_GPU_LAYER_H_

#include <cstdint>
#include <random>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/device/stream.h"
#include "kernels/linear/linear.h"
#include "kernels/mamba_layer/mamba_layer.h"
#include "kernels/reference/mamba_layer_ref.h"

namespace mambad {

// A copy of `values` on the stream's device.
template <class T>
kernels::DeviceBuffer Upload(kernels::Stream& stream, const std::vector<T>& values) {
  const size_t bytes = values.size() * sizeof(T);
  auto buffer = stream.device().Allocate(bytes, "test");
  MAMBAD_CHECK(buffer.ok());
  MAMBAD_CHECK(kernels::CopyToDevice(stream, buffer->data(), values.data(), bytes).ok());
  MAMBAD_CHECK(stream.Synchronize().ok());
  return *std::move(buffer);
}

template <class T>
std::vector<T> Download(kernels::Stream& stream, const T* from, size_t count) {
  std::vector<T> values(count);
  MAMBAD_CHECK(kernels::CopyToHost(stream, values.data(), from, count * sizeof(T)).ok());
  MAMBAD_CHECK(stream.Synchronize().ok());
  return values;
}

class GpuLayer {
 public:
  GpuLayer(kernels::Stream& stream, const kernels::MambaLayerShape& shape, bool biases, std::mt19937& random);

  const kernels::MambaLayerShape& shape() const { return shape_; }
  const kernels::MambaLayerWeights& weights() const { return weights_; }
  const float* norm_weight() const { return norm_weight_; }
  const reference::MambaLayer& reference() const { return reference_; }

  // Elements of its window and of its state in a slot.
  int64_t window_elements() const { return int64_t{shape_.d_conv - 1} * shape_.d_inner; }
  int64_t state_elements() const { return int64_t{shape_.d_state} * shape_.d_inner; }

 private:
  const float* Vector(kernels::Stream& stream, const std::vector<float>& values);
  kernels::PackedWeight Matrix(kernels::Stream& stream, const std::vector<float>& values, int64_t rows);

  kernels::MambaLayerShape shape_;
  kernels::MambaLayerWeights weights_;
  reference::MambaLayer reference_;
  const float* norm_weight_ = nullptr;
  std::vector<kernels::DeviceBuffer> vectors_;
  std::vector<kernels::PackedLinear> matrices_;
};

// `count` numbers of a normal distribution, those of a matrix rounded to bf16.
std::vector<float> NormalFloats(std::mt19937& random, int64_t count, float mean, float deviation);
std::vector<float> NormalBf16(std::mt19937& random, int64_t count, float deviation);

// Distinct slots of [0, slots) in random order.
std::vector<int32_t> RandomSlots(std::mt19937& random, int64_t count, int32_t slots);

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_GPU_LAYER_H_
