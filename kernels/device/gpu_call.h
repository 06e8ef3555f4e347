// MAMBAD_ON_GPU(stream, what, call): the status of a call of one of this folder's CUDA functions, on the
// stream's device. In builds without CUDA nothing is called: a stream on a GPU cannot exist there.
#ifndef MAMBAD_KERNELS_DEVICE_GPU_CALL_H_
#define MAMBAD_KERNELS_DEVICE_GPU_CALL_H_

#include "kernels/device/gpu_status.h"
#include "kernels/device/stream.h"

#if defined(MAMBAD_HAS_CUDA)
#define MAMBAD_ON_GPU(stream, what, call)                                                      \
  [&]() -> absl::Status {                                                                      \
    if (absl::Status current = (stream).device().MakeCurrent(); !current.ok()) return current; \
    return ::mambad::kernels::GpuStatus((call), (what));                                       \
  }()
#else
#define MAMBAD_ON_GPU(stream, what, call) \
  ::mambad::kernels::GpuStatus(::mambad::kernels::gpu::kAbsent, (what))
#endif

#endif  // MAMBAD_KERNELS_DEVICE_GPU_CALL_H_
