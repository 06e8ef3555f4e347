#include "tests/support/fake_gpu.h"

#include <sys/mman.h>

#include <condition_variable>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>

#include "kernels/base/check.h"

namespace mambad {
namespace {

std::mutex mu;
std::condition_variable changed;
std::map<void*, size_t> device_memory;  // guarded by mu; bytes by address
std::map<void*, size_t> pinned_memory;  // guarded by mu

constexpr int kGarbage = 0xee;

// REQUIRES: mu is held.
void Fail() {
  if (std::exchange(Gpu().failed, true)) return;
  for (const auto& [data, bytes] : device_memory) MAMBAD_CHECK(mprotect(data, bytes, PROT_NONE) == 0);
  for (const auto& [data, bytes] : pinned_memory) std::memset(data, kGarbage, bytes);
}

}  // namespace

FakeGpu& Gpu() {
  static FakeGpu gpu;
  return gpu;
}

bool GpuHasFailed() {
  const std::lock_guard lock(mu);
  return Gpu().failed;
}

bool GpuHangs() {
  const std::lock_guard lock(mu);
  return Gpu().hangs;
}

void EndGpuHang(kernels::gpu::Code code) {
  const std::lock_guard lock(mu);
  Gpu().hang_from.reset();
  Gpu().hang_ends_with = code;
  if (code != 0) {
    Gpu().fail_from = 1;
    Fail();
  }
  changed.notify_all();
}

namespace kernels::gpu {
namespace {

// 0, or the failure that was asked for. REQUIRES: mu is held.
Code Call() {
  FakeGpu& gpu = Gpu();
  ++gpu.calls;
  if (!gpu.fail_from || gpu.calls < *gpu.fail_from) return 0;
  Fail();
  return FakeGpu::kFailure;
}

// The same for a call that waits, and so may hang.
Code WaitingCall(std::unique_lock<std::mutex>& lock) {
  const Code code = Call();
  FakeGpu& gpu = Gpu();
  if (code != 0 || !gpu.hang_from || gpu.calls < *gpu.hang_from) return code;
  gpu.hangs = true;
  changed.wait(lock, [&] { return gpu.hang_ends_with.has_value(); });
  gpu.hangs = false;
  return *gpu.hang_ends_with;
}

Code HandOut(void** out) {
  const std::lock_guard lock(mu);
  *out = nullptr;
  if (const Code code = Call(); code != 0) return code;
  *out = std::malloc(1);
  ++Gpu().outstanding;
  return 0;
}

Code TakeBack(void* handle) {
  const std::lock_guard lock(mu);
  std::free(handle);
  --Gpu().outstanding;
  return 0;
}

// Whole pages, so that they can be locked.
Code HandOutMemory(void** out, size_t bytes, std::map<void*, size_t>* memory) {
  *out = nullptr;
  if (const Code code = Call(); code != 0) return code;
  void* data = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  MAMBAD_CHECK(data != MAP_FAILED);
  // As the driver does: what was there before is there still.
  std::memset(data, kGarbage, bytes);
  memory->emplace(data, bytes);
  ++Gpu().outstanding;
  *out = data;
  return 0;
}

Code TakeBackMemory(void* data, std::map<void*, size_t>* memory) {
  const auto entry = memory->find(data);
  MAMBAD_CHECK(entry != memory->end());
  MAMBAD_CHECK(munmap(data, entry->second) == 0);
  memory->erase(entry);
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

Code Select(int) {
  const std::lock_guard lock(mu);
  return Call();
}

Code Properties(int, GpuProperties* properties) {
  const std::lock_guard lock(mu);
  std::strcpy(properties->name, "Fake");
  properties->major = Gpu().major;
  properties->total_bytes = Gpu().total_bytes;
  properties->free_bytes = Gpu().free_bytes;
  return Call();
}

Code FreeBytes(std::uint64_t* bytes) {
  const std::lock_guard lock(mu);
  *bytes = Gpu().free_bytes;
  return Call();
}

Code Allocate(void** data, std::size_t bytes) {
  const std::lock_guard lock(mu);
  *data = nullptr;
  if (bytes > Gpu().free_bytes) return FakeGpu::kOutOfMemory;
  return HandOutMemory(data, bytes, &device_memory);
}

Code Free(void* data) {
  const std::lock_guard lock(mu);
  return TakeBackMemory(data, &device_memory);
}

Code AllocatePinned(void** data, std::size_t bytes) {
  const std::lock_guard lock(mu);
  return HandOutMemory(data, bytes, &pinned_memory);
}

Code FreePinned(void* data) {
  const std::lock_guard lock(mu);
  return TakeBackMemory(data, &pinned_memory);
}

Code CreateStream(void** stream) { return HandOut(stream); }
Code DestroyStream(void* stream) { return TakeBack(stream); }

Code Synchronize(void*) {
  std::unique_lock lock(mu);
  return WaitingCall(lock);
}

Code Copy(void*, void* to, const void* from, std::size_t bytes) {
  const std::lock_guard lock(mu);
  if (const Code code = Call(); code != 0) return code;
  std::memcpy(to, from, bytes);
  return 0;
}

Code Fill(void*, void* to, int value, std::size_t bytes) {
  std::unique_lock lock(mu);
  if (const Code code = Gpu().fills_hang ? WaitingCall(lock) : Call(); code != 0) return code;
  std::memset(to, value, bytes);
  return 0;
}

Code CreateEvent(void** event) { return HandOut(event); }
Code DestroyEvent(void* event) { return TakeBack(event); }

Code RecordEvent(void*, void*) {
  const std::lock_guard lock(mu);
  return Call();
}

Code WaitForEvent(void*) { return Synchronize(nullptr); }

Code BeginCapture(void*) {
  const std::lock_guard lock(mu);
  return Call();
}

Code EndCapture(void*, void** graph) { return HandOut(graph); }

Code LaunchGraph(void*, void*) {
  const std::lock_guard lock(mu);
  return Call();
}

Code DestroyGraph(void* graph) { return TakeBack(graph); }

std::string_view Text(Code code) {
  if (code == FakeGpu::kOutOfMemory) return "out of memory";
  return code == FakeGpu::kSystemNotReady ? "system not yet initialized" : "unspecified launch failure";
}

}  // namespace kernels::gpu
}  // namespace mambad
