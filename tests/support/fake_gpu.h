// A GPU made of host memory: takes the place of kernels/device/gpu_api_*. It can lack a driver or a device,
// refuse memory, and fail at any call; what it handed out and did not get back is counted.
#ifndef MAMBAD_TESTS_SUPPORT_FAKE_GPU_H_
#define MAMBAD_TESTS_SUPPORT_FAKE_GPU_H_

#include <cstdint>
#include <optional>

#include "kernels/device/gpu_api.h"

namespace mambad {

struct FakeGpu {
  static constexpr kernels::gpu::Code kFailure = 719;    // cudaErrorLaunchFailure
  static constexpr kernels::gpu::Code kOutOfMemory = 2;  // cudaErrorMemoryAllocation
  static constexpr kernels::gpu::Code kSystemNotReady = 802;

  int driver_version = 13000;
  int runtime_version = 13000;
  kernels::gpu::Code versions_code = 0;
  kernels::gpu::Code count_code = 0;
  int devices = 1;
  int major = 9;
  uint64_t total_bytes = uint64_t{80} << 30;
  uint64_t free_bytes = uint64_t{79} << 30;

  // From this call on (1 is the next one) everything fails, as on a lost device; giving back works. None:
  // never.
  std::optional<uint64_t> fail_from;
  uint64_t calls = 0;

  // What is out: allocations of both kinds, streams, events, graphs.
  int64_t outstanding = 0;
};

// The one that the calls of the process reach. Tests start by assigning a fresh one.
FakeGpu& Gpu();

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_FAKE_GPU_H_
