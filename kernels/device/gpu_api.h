// The part of the CUDA runtime that Device and Stream need, in plain C++. Two implementations:
// gpu_api_cuda.cu calls the runtime, gpu_api_absent.cc (builds without CUDA) answers kAbsent to everything.
//
// Handles are the runtime's own pointers (cudaStream_t, cudaEvent_t, cudaGraphExec_t). A call returns 0 or
// the runtime's error code; a code that is not 0 mostly means that the device is lost, since a failed kernel
// shows at any later call.
#ifndef MAMBAD_KERNELS_DEVICE_GPU_API_H_
#define MAMBAD_KERNELS_DEVICE_GPU_API_H_

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "absl/status/status.h"

namespace mambad::kernels {

struct GpuProperties {
  char name[128] = {};
  int major = 0;  // compute capability
  int minor = 0;
  int multiprocessors = 0;
  int l2_bytes = 0;
  int shared_bytes_per_block = 0;  // the most that a kernel can ask for
  std::uint64_t total_bytes = 0;
  std::uint64_t free_bytes = 0;
  int driver_version = 0;   // 13000 is 13.0; the newest CUDA that the driver serves
  int runtime_version = 0;  // of this build
};

namespace gpu {

using Code = int;
inline constexpr Code kAbsent = -1;     // this build has no CUDA kernels
inline constexpr Code kNoDevice = 100;  // cudaErrorNoDevice

// A driver of 0: none is loaded. Touches no device.
Code Versions(int* driver, int* runtime);
Code DeviceCount(int* count);
// Makes `ordinal` the calling thread's device; a context is made at its first use.
Code Select(int ordinal);
Code Properties(int ordinal, GpuProperties* properties);
Code FreeBytes(std::uint64_t* bytes);

Code Allocate(void** data, std::size_t bytes);
Code Free(void* data);
// Host memory that copies reach without a detour, and that a stream may read or write on its own.
Code AllocatePinned(void** data, std::size_t bytes);
Code FreePinned(void* data);

Code CreateStream(void** stream);
Code DestroyStream(void* stream);
Code Synchronize(void* stream);
// Either side may be host or device memory.
Code Copy(void* stream, void* to, const void* from, std::size_t bytes);
Code Fill(void* stream, void* to, int value, std::size_t bytes);

Code CreateEvent(void** event);
Code DestroyEvent(void* event);
// Marks the end of what was enqueued on `stream` so far.
Code RecordEvent(void* event, void* stream);
// Returns when what was recorded last has finished, at once if nothing was.
Code WaitForEvent(void* event);

// What is enqueued on `stream` in between becomes a graph instead of running.
Code BeginCapture(void* stream);
Code EndCapture(void* stream, void** graph);
Code LaunchGraph(void* stream, void* graph);
Code DestroyGraph(void* graph);

std::string_view Text(Code code);  // static

}  // namespace gpu

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_GPU_API_H_
