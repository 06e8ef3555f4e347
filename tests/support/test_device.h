// Which device a test runs on: the CPU, or with MAMBAD_TEST_DEVICE=cuda the GPU. There the memory that tests
// hand to ops and models is pinned host memory, which a GPU reads and writes in place: tests fill and compare
// it as always.
#ifndef MAMBAD_TESTS_SUPPORT_TEST_DEVICE_H_
#define MAMBAD_TESTS_SUPPORT_TEST_DEVICE_H_

#include <cstddef>
#include <cstdlib>
#include <new>
#include <string_view>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/device/gpu_api.h"

namespace mambad {

inline bool TestsRunOnGpu() {
  const char* device = std::getenv("MAMBAD_TEST_DEVICE");
  return device != nullptr && std::string_view(device) == "cuda";
}

// Its name, as servers and programs print it.
inline std::string_view TestDeviceName() { return TestsRunOnGpu() ? "cuda" : "cpu"; }

template <class T>
struct TestAllocator {
  using value_type = T;
  TestAllocator() = default;
  template <class U>
  TestAllocator(const TestAllocator<U>&) {}

  T* allocate(size_t count) {
    if (!TestsRunOnGpu()) return static_cast<T*>(::operator new(count * sizeof(T), kAlignment));
    void* data = nullptr;
    MAMBAD_CHECK(kernels::gpu::AllocatePinned(&data, count * sizeof(T)) == 0);
    return static_cast<T*>(data);
  }
  void deallocate(T* data, size_t) {
    if (!TestsRunOnGpu()) return ::operator delete(data, kAlignment);
    MAMBAD_CHECK(kernels::gpu::FreePinned(data) == 0);
  }
  bool operator==(const TestAllocator&) const { return true; }

 private:
  static constexpr std::align_val_t kAlignment{64};
};

template <class T>
using TestVector = std::vector<T, TestAllocator<T>>;

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_TEST_DEVICE_H_
