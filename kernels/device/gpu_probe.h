// Is there a GPU that this build can use?
#ifndef MAMBAD_KERNELS_DEVICE_GPU_PROBE_H_
#define MAMBAD_KERNELS_DEVICE_GPU_PROBE_H_

#include "absl/status/statusor.h"
#include "kernels/device/gpu_api.h"

namespace mambad::kernels {

// The oldest compute capability that the kernels are built for.
inline constexpr int kMinComputeMajor = 8;

// The device `ordinal` counts within CUDA_VISIBLE_DEVICES. Makes it the calling thread's device.
// NotFound: this machine has no GPU (so a choice of `auto` takes the CPU), or this build no kernels for one.
// FailedPrecondition: there is one, but it is too old, its driver is, or it does not answer.
absl::StatusOr<GpuProperties> ProbeGpu(int ordinal);

// False in builds without CUDA.
bool BuiltForGpu();

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_GPU_PROBE_H_
