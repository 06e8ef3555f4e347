// What a program may know of the device without including kernels: its name for people, and its roof for
// benchmarks.
#ifndef MAMBAD_ENGINE_DEVICE_INFO_H_
#define MAMBAD_ENGINE_DEVICE_INFO_H_

#include <cstdint>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/model.h"

namespace mambad {

struct DeviceInfo {
  std::string kind;  // "cpu", "cuda"
  std::string name;  // the instruction path or the card, e.g. "cpu-avx2"
  uint32_t threads = 0;
  uint64_t free_bytes = 0;  // of its memory, below the ceiling that was set
};

DeviceInfo DescribeDevice(const Model& model);

// GB/s (10^9 bytes) of reading a gibibyte with all threads of the model's device. Takes about a second and
// that much memory. REQUIRES: nothing else runs on the device.
absl::StatusOr<double> MeasureRoof(const Model& model);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_DEVICE_INFO_H_
