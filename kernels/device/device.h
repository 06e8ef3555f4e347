// A device: its memory, the order of work on it, and (on the CPU) its threads and instruction set.
// It knows no op. Ops receive a Stream& and device pointers.
//
//   MAMBAD_ASSIGN_OR_RETURN(auto device, Device::Create({.threads = 2}));
//   MAMBAD_ASSIGN_OR_RETURN(auto stream, Stream::Create(*device));
//   MAMBAD_ASSIGN_OR_RETURN(DeviceBuffer pool, device->Allocate(bytes, "state pool", Fill::kZero));
//
// No header here shows a CUDA type: a CUDA device is the same Device with another kind.
#ifndef MAMBAD_KERNELS_DEVICE_DEVICE_H_
#define MAMBAD_KERNELS_DEVICE_DEVICE_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/cpu_path.h"
#include "kernels/device/thread_pool.h"

namespace mambad::kernels {

class Device;

enum class DeviceKind : std::uint8_t { kCpu, kCuda };

std::string_view Name(DeviceKind kind);  // "cpu", "cuda"

enum class Fill : std::uint8_t { kNone, kZero };

// Device memory: exclusive, movable, given back to its device's ledger on destruction. Aligned to 64 bytes,
// from 2 MiB on to 2 MiB (and backed by huge pages where the system grants them).
class DeviceBuffer {
 public:
  DeviceBuffer() = default;
  DeviceBuffer(DeviceBuffer&& other) noexcept;
  DeviceBuffer& operator=(DeviceBuffer&& other) noexcept;
  ~DeviceBuffer();

  void* data() const { return data_; }
  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  friend class Device;
  DeviceBuffer(Device* device, void* data, std::size_t bytes, std::size_t user)
      : device_(device), data_(data), bytes_(bytes), user_(user) {}

  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
  std::size_t user_ = 0;  // index into the device's ledger
};

struct DeviceOptions {
  DeviceKind kind = DeviceKind::kCpu;
  int threads = 0;                       // CPU workers; 0: all CPUs this process may use
  std::uint64_t memory_limit_bytes = 0;  // ceiling of the ledger; 0: the memory this process may use
};

// One addend of the memory ceiling.
struct MemoryUse {
  std::string user;  // who holds it, e.g. "state pool"
  std::uint64_t bytes = 0;
};

// Must outlive its buffers and streams. Allocate and the ledger are safe on any thread.
class Device {
 public:
  // FailedPrecondition when the kind is not in this build or the machine; see also SelectCpuPath.
  static absl::StatusOr<std::unique_ptr<Device>> Create(const DeviceOptions& options = {});
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  CpuPath cpu_path() const { return cpu_path_; }
  ThreadPool& pool() { return pool_; }

  // What the bits of a result depend on, for the numerics id: "cpu-avx2".
  std::string Architecture() const;

  // ResourceExhausted naming `user` when the ledger's ceiling or the system refuses. 0 bytes is allowed.
  absl::StatusOr<DeviceBuffer> Allocate(std::size_t bytes, std::string_view user, Fill fill = Fill::kNone);

  // One entry per user that ever allocated, in the order of first use.
  std::vector<MemoryUse> Ledger() const;
  std::uint64_t bytes_in_use() const;
  std::uint64_t memory_limit_bytes() const { return memory_limit_bytes_; }

 private:
  friend class DeviceBuffer;
  Device(const DeviceOptions& options, CpuPath cpu_path);
  absl::StatusOr<std::size_t> Charge(std::size_t bytes, std::string_view user);
  void Refund(std::size_t bytes, std::size_t user);

  const DeviceKind kind_;
  const CpuPath cpu_path_;
  const std::uint64_t memory_limit_bytes_;
  ThreadPool pool_;
  mutable std::mutex mutex_;
  std::vector<MemoryUse> ledger_;   // guarded by mutex_
  std::uint64_t bytes_in_use_ = 0;  // guarded by mutex_
};

// The order of work on a device. On the CPU an op has finished when it returns. One thread at a time.
class Stream {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{4} << 20;

  static absl::StatusOr<std::unique_ptr<Stream>> Create(Device& device);

  Device& device() { return *device_; }
  ThreadPool& pool() { return device_->pool(); }
  CpuPath cpu_path() const { return device_->cpu_path(); }

  // Scratch of the op that runs now: kWorkspaceBytes, 64-byte aligned, contents undefined. An op that needs
  // more splits its work.
  std::span<std::byte> workspace() { return {workspace_.as<std::byte>(), workspace_.bytes()}; }

  // Returns when everything given to this stream has finished.
  absl::Status Synchronize();

 private:
  Stream(Device& device, DeviceBuffer workspace) : device_(&device), workspace_(std::move(workspace)) {}

  Device* device_;
  DeviceBuffer workspace_;
};

// Copies and fills in stream order. Pointers are to device memory unless they say host; ranges of one copy
// must not overlap. Host memory may be reused when the call returns; after CopyToHost call Synchronize
// before reading.
absl::Status CopyToDevice(Stream& stream, void* destination, const void* host_source, std::size_t bytes);
absl::Status CopyToHost(Stream& stream, void* host_destination, const void* source, std::size_t bytes);
absl::Status CopyOnDevice(Stream& stream, void* destination, const void* source, std::size_t bytes);
absl::Status FillBytes(Stream& stream, void* destination, std::uint8_t value, std::size_t bytes);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_DEVICE_H_
