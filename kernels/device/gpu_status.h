// The runtime's error codes as absl::Status.
#ifndef MAMBAD_KERNELS_DEVICE_GPU_STATUS_H_
#define MAMBAD_KERNELS_DEVICE_GPU_STATUS_H_

#include <string>
#include <string_view>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

// OK for 0, otherwise Internal: "<what>: <text>".
inline absl::Status GpuStatus(gpu::Code code, std::string_view what) {
  if (code == 0) return absl::OkStatus();
  return absl::InternalError(absl::StrCat(std::string(what), ": ", std::string(gpu::Text(code))));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_GPU_STATUS_H_
