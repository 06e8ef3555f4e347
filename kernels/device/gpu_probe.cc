#include "kernels/device/gpu_probe.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace mambad::kernels {
namespace {

std::string CudaVersion(int version) { return absl::StrCat(version / 1000, ".", version % 1000 / 10); }

absl::Status Unusable(gpu::Code code, int ordinal) {
  return absl::FailedPreconditionError(
      absl::StrCat("device cuda:", ordinal, ": ", std::string(gpu::Text(code))));
}

}  // namespace

bool BuiltForGpu() {
  int driver = 0, runtime = 0;
  return gpu::Versions(&driver, &runtime) != gpu::kAbsent;
}

absl::StatusOr<GpuProperties> ProbeGpu(int ordinal) {
  int driver = 0, runtime = 0, count = 0;
  const gpu::Code versions = gpu::Versions(&driver, &runtime);
  if (versions == gpu::kAbsent) return absl::NotFoundError("device cuda: this build has no CUDA kernels");
  if (versions == 0 && driver == 0) return absl::NotFoundError("device cuda: no NVIDIA driver is loaded");
  if (versions != 0) return Unusable(versions, ordinal);
  if (driver / 1000 < runtime / 1000) {
    return absl::FailedPreconditionError(absl::StrCat("device cuda: the driver serves CUDA ",
                                                      CudaVersion(driver), ", this build needs ",
                                                      CudaVersion(runtime / 1000 * 1000)));
  }
  const gpu::Code counted = gpu::DeviceCount(&count);
  if (counted == gpu::kNoDevice || (counted == 0 && count == 0))
    return absl::NotFoundError("device cuda: the driver shows no device");
  if (counted != 0) return Unusable(counted, ordinal);
  if (ordinal < 0 || ordinal >= count) {
    return absl::FailedPreconditionError(absl::StrCat("device cuda:", ordinal, ": there are ", count,
                                                      " (counted within CUDA_VISIBLE_DEVICES)"));
  }
  GpuProperties properties;
  if (const gpu::Code code = gpu::Select(ordinal); code != 0) return Unusable(code, ordinal);
  if (const gpu::Code code = gpu::Properties(ordinal, &properties); code != 0) return Unusable(code, ordinal);
  if (properties.major < kMinComputeMajor) {
    return absl::FailedPreconditionError(absl::StrCat("device cuda:", ordinal, ": ", properties.name,
                                                      " has compute capability ", properties.major, ".",
                                                      properties.minor, ", 8.0 or later is needed"));
  }
  return properties;
}

}  // namespace mambad::kernels
