// A GPU made of host memory: takes the place of kernels/device/gpu_api_*. It can lack a driver or a device,
// refuse memory, fail at any call, and stop answering; what it handed out and did not get back is counted.
//
// From its first failure on, its memory can be neither read nor written (whoever tries dies), and what copies
// had brought to pinned memory is overwritten: nothing that comes from a lost device goes unnoticed.
//
// Threads: any, but for what a test sets and reads, which is for when no other thread uses the GPU.
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
  // The first Synchronize from this call on does not return before EndGpuHang. None: never.
  std::optional<uint64_t> hang_from;
  bool fills_hang = false;  // likewise
  uint64_t calls = 0;
  bool failed = false;  // some call has

  // What is out: allocations of both kinds, streams, events, graphs.
  int64_t outstanding = 0;

  bool hangs = false;  // some Synchronize waits
  std::optional<kernels::gpu::Code> hang_ends_with;
};

// The one that the calls of the process reach. Tests start by assigning a fresh one.
FakeGpu& Gpu();

// For while other threads use it.
bool GpuHasFailed();
bool GpuHangs();
// Lets what hangs return `code`; all later calls too, if it is a failure.
void EndGpuHang(kernels::gpu::Code code);

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_FAKE_GPU_H_
