// CPU devices for kernel tests, one per instruction set that this machine can run.
#ifndef MAMBAD_TESTS_SUPPORT_CPU_DEVICE_H_
#define MAMBAD_TESTS_SUPPORT_CPU_DEVICE_H_

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "kernels/base/check.h"
#include "kernels/device/device.h"

namespace mambad::kernels {

// The paths to test: all that the machine has, or the one that the caller's MAMBAD_CPU forces.
inline std::vector<CpuPath> PathsToTest() {
  if (std::getenv("MAMBAD_CPU") != nullptr) return {SelectCpuPath().value()};
  std::vector<CpuPath> paths;
  for (CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    if (Supported(path)) paths.push_back(path);
  }
  return paths;
}

// Sets or (null) removes an environment variable for the life of this object.
class ScopedEnvironment {
 public:
  ScopedEnvironment(std::string name, const char* value) : name_(std::move(name)) {
    if (const char* old = std::getenv(name_.c_str())) {
      had_ = true;
      old_ = old;
    }
    Set(value);
  }
  ~ScopedEnvironment() { Set(had_ ? old_.c_str() : nullptr); }
  ScopedEnvironment(const ScopedEnvironment&) = delete;
  ScopedEnvironment& operator=(const ScopedEnvironment&) = delete;

 private:
  void Set(const char* value) {
    if (value == nullptr) {
      unsetenv(name_.c_str());
    } else {
      setenv(name_.c_str(), value, 1);
    }
  }

  std::string name_;
  std::string old_;
  bool had_ = false;
};

inline std::unique_ptr<Device> DeviceOn(CpuPath path, int threads) {
  const ScopedEnvironment force("MAMBAD_CPU", std::string(Name(path)).c_str());
  auto device = Device::Create({.threads = threads});
  MAMBAD_CHECK(device.ok());
  return *std::move(device);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_TESTS_SUPPORT_CPU_DEVICE_H_
