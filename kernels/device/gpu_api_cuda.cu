#include <cuda_runtime.h>

#include "kernels/device/gpu_api.h"

static_assert(__cplusplus >= 202002L, "nvcc fell back to an older C++");
static_assert(mambad::kernels::gpu::kNoDevice == cudaErrorNoDevice);

namespace mambad::kernels::gpu {
namespace {

cudaStream_t AsStream(void* stream) { return static_cast<cudaStream_t>(stream); }
cudaEvent_t AsEvent(void* event) { return static_cast<cudaEvent_t>(event); }

}  // namespace

Code Versions(int* driver, int* runtime) {
  const cudaError_t error = cudaDriverGetVersion(driver);
  if (error != cudaSuccess) return error;
  return cudaRuntimeGetVersion(runtime);
}

Code DeviceCount(int* count) { return cudaGetDeviceCount(count); }

Code Select(int ordinal) {
  thread_local int selected = -1;
  if (selected == ordinal) return cudaSuccess;
  const cudaError_t error = cudaSetDevice(ordinal);
  if (error == cudaSuccess) selected = ordinal;
  return error;
}

Code Properties(int ordinal, GpuProperties* properties) {
  cudaDeviceProp from;
  if (const cudaError_t error = cudaGetDeviceProperties(&from, ordinal); error != cudaSuccess) return error;
  static_assert(sizeof(properties->name) <= sizeof(from.name));
  for (std::size_t i = 0; i + 1 < sizeof(properties->name); ++i) properties->name[i] = from.name[i];
  properties->major = from.major;
  properties->minor = from.minor;
  properties->multiprocessors = from.multiProcessorCount;
  properties->l2_bytes = from.l2CacheSize;
  properties->shared_bytes_per_block = static_cast<int>(from.sharedMemPerBlockOptin);
  std::size_t free_bytes = 0, total_bytes = 0;
  if (const cudaError_t error = cudaMemGetInfo(&free_bytes, &total_bytes); error != cudaSuccess) return error;
  properties->total_bytes = total_bytes;
  properties->free_bytes = free_bytes;
  return Versions(&properties->driver_version, &properties->runtime_version);
}

Code FreeBytes(std::uint64_t* bytes) {
  std::size_t free_bytes = 0, total_bytes = 0;
  const cudaError_t error = cudaMemGetInfo(&free_bytes, &total_bytes);
  *bytes = free_bytes;
  return error;
}

Code Allocate(void** data, std::size_t bytes) { return cudaMalloc(data, bytes); }
Code Free(void* data) { return cudaFree(data); }
Code AllocatePinned(void** data, std::size_t bytes) {
  return cudaHostAlloc(data, bytes, cudaHostAllocDefault);
}
Code FreePinned(void* data) { return cudaFreeHost(data); }

Code CreateStream(void** stream) {
  cudaStream_t created = nullptr;
  const cudaError_t error = cudaStreamCreateWithFlags(&created, cudaStreamNonBlocking);
  *stream = created;
  return error;
}

Code DestroyStream(void* stream) { return cudaStreamDestroy(AsStream(stream)); }
Code Synchronize(void* stream) { return cudaStreamSynchronize(AsStream(stream)); }

Code Copy(void* stream, void* to, const void* from, std::size_t bytes) {
  return cudaMemcpyAsync(to, from, bytes, cudaMemcpyDefault, AsStream(stream));
}

Code Fill(void* stream, void* to, int value, std::size_t bytes) {
  return cudaMemsetAsync(to, value, bytes, AsStream(stream));
}

Code CreateEvent(void** event) {
  cudaEvent_t created = nullptr;
  const cudaError_t error = cudaEventCreateWithFlags(&created, cudaEventDisableTiming);
  *event = created;
  return error;
}

Code DestroyEvent(void* event) { return cudaEventDestroy(AsEvent(event)); }
Code RecordEvent(void* event, void* stream) { return cudaEventRecord(AsEvent(event), AsStream(stream)); }
Code WaitForEvent(void* event) { return cudaEventSynchronize(AsEvent(event)); }

Code BeginCapture(void* stream) {
  return cudaStreamBeginCapture(AsStream(stream), cudaStreamCaptureModeThreadLocal);
}

Code EndCapture(void* stream, void** graph) {
  cudaGraph_t captured = nullptr;
  if (const cudaError_t error = cudaStreamEndCapture(AsStream(stream), &captured); error != cudaSuccess)
    return error;
  cudaGraphExec_t executable = nullptr;
  cudaError_t error = cudaGraphInstantiate(&executable, captured, 0);
  if (error == cudaSuccess) error = cudaGraphUpload(executable, AsStream(stream));
  if (const cudaError_t destroyed = cudaGraphDestroy(captured); error == cudaSuccess) error = destroyed;
  if (error == cudaSuccess) {
    *graph = executable;
  } else if (executable != nullptr) {
    (void)cudaGraphExecDestroy(executable);
  }
  return error;
}

Code LaunchGraph(void* stream, void* graph) {
  return cudaGraphLaunch(static_cast<cudaGraphExec_t>(graph), AsStream(stream));
}

Code DestroyGraph(void* graph) { return cudaGraphExecDestroy(static_cast<cudaGraphExec_t>(graph)); }

std::string_view Text(Code code) { return cudaGetErrorString(static_cast<cudaError_t>(code)); }

}  // namespace mambad::kernels::gpu
