#include "tests/support/fake_gpu.h"

#include <cstdlib>
#include <cstring>

namespace mambad {

FakeGpu& Gpu() {
  static FakeGpu gpu;
  return gpu;
}

namespace kernels::gpu {
namespace {

// 0, or the failure that was asked for.
Code Call() {
  FakeGpu& gpu = Gpu();
  ++gpu.calls;
  return gpu.fail_from && gpu.calls >= *gpu.fail_from ? FakeGpu::kFailure : 0;
}

Code HandOut(void** out, std::size_t bytes) {
  *out = nullptr;
  if (const Code code = Call(); code != 0) return code;
  *out = std::malloc(bytes);
  ++Gpu().outstanding;
  return 0;
}

Code TakeBack(void* data) {
  std::free(data);
  --Gpu().outstanding;
  return 0;
}

}  // namespace

Code Versions(int* driver, int* runtime) {
  *driver = Gpu().driver_version;
  *runtime = Gpu().runtime_version;
  return Gpu().versions_code;
}

Code DeviceCount(int* count) {
  *count = Gpu().count_code == 0 ? Gpu().devices : 0;
  return Gpu().count_code;
}

Code Select(int) { return Call(); }

Code Properties(int, GpuProperties* properties) {
  std::strcpy(properties->name, "Fake");
  properties->major = Gpu().major;
  properties->total_bytes = Gpu().total_bytes;
  properties->free_bytes = Gpu().free_bytes;
  return Call();
}

Code FreeBytes(std::uint64_t* bytes) {
  *bytes = Gpu().free_bytes;
  return Call();
}

Code Allocate(void** data, std::size_t bytes) {
  *data = nullptr;
  if (bytes > Gpu().free_bytes) return FakeGpu::kOutOfMemory;
  const Code code = HandOut(data, bytes);
  // As the driver does: what was there before is there still.
  if (code == 0) std::memset(*data, 0xee, bytes);
  return code;
}

Code Free(void* data) { return TakeBack(data); }
Code AllocatePinned(void** data, std::size_t bytes) { return HandOut(data, bytes); }
Code FreePinned(void* data) { return TakeBack(data); }
Code CreateStream(void** stream) { return HandOut(stream, 1); }
Code DestroyStream(void* stream) { return TakeBack(stream); }
Code Synchronize(void*) { return Call(); }

Code Copy(void*, void* to, const void* from, std::size_t bytes) {
  if (const Code code = Call(); code != 0) return code;
  std::memcpy(to, from, bytes);
  return 0;
}

Code Fill(void*, void* to, int value, std::size_t bytes) {
  if (const Code code = Call(); code != 0) return code;
  std::memset(to, value, bytes);
  return 0;
}

Code CreateEvent(void** event) { return HandOut(event, 1); }
Code DestroyEvent(void* event) { return TakeBack(event); }
Code RecordEvent(void*, void*) { return Call(); }
Code WaitForEvent(void*) { return Call(); }
Code BeginCapture(void*) { return Call(); }
Code EndCapture(void*, void** graph) { return HandOut(graph, 1); }
Code LaunchGraph(void*, void*) { return Call(); }
Code DestroyGraph(void* graph) { return TakeBack(graph); }

std::string_view Text(Code code) {
  if (code == FakeGpu::kOutOfMemory) return "out of memory";
  return code == FakeGpu::kSystemNotReady ? "system not yet initialized" : "unspecified launch failure";
}

}  // namespace kernels::gpu
}  // namespace mambad
