#include "engine/device_info.h"

#include "kernels/bench/roof.h"
#include "kernels/device/device.h"

namespace mambad {

DeviceInfo DescribeDevice(const Model& model) {
  kernels::Device& device = model.device();
  return {.kind = std::string(kernels::Name(device.kind())),
          .name = device.is_gpu() ? device.gpu().name : device.Architecture(),
          .threads = static_cast<uint32_t>(device.pool().threads()),
          .free_bytes = device.memory_limit_bytes() - device.bytes_in_use()};
}

absl::StatusOr<double> MeasureRoof(const Model& model) { return kernels::MeasureReadRoof(model.device()); }

}  // namespace mambad
