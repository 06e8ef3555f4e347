// A device: its memory and, on the CPU, its threads and instruction set. It knows no op. Ops receive a
// Stream& (stream.h) and device pointers.
//
//   MAMBAD_ASSIGN_OR_RETURN(auto device, Device::Create({.threads = 2}));
//   MAMBAD_ASSIGN_OR_RETURN(auto stream, Stream::Create(*device));
//   MAMBAD_ASSIGN_OR_RETURN(DeviceBuffer pool, device->Allocate(bytes, "state pool", Fill::kZero));
//
// No header here shows a CUDA type: a CUDA device is the same Device with another kind. Both kinds have a
// pool of threads, since loading converts weights with it.
#ifndef MAMBAD_KERNELS_DEVICE_DEVICE_H_
#define MAMBAD_KERNELS_DEVICE_DEVICE_H_

#include <atomic>
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
#include "kernels/device/gpu_api.h"
#include "kernels/device/thread_pool.h"

namespace mambad::kernels {

class Device;

enum class DeviceKind : std::uint8_t { kCpu, kCuda };

std::string_view Name(DeviceKind kind);  // "cpu", "cuda"

enum class Fill : std::uint8_t { kNone, kZero };

// Device memory: exclusive, movable, given back to its device's ledger on destruction. Aligned to 64 bytes
// (on a GPU to 256); on the CPU from 2 MiB on to 2 MiB, and backed by huge pages where the system grants
// them.
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
  int ordinal = 0;                       // of a GPU, within CUDA_VISIBLE_DEVICES
  int threads = 0;                       // CPU workers; 0: all CPUs this process may use
  std::uint64_t memory_limit_bytes = 0;  // ceiling of the ledger; 0: what this process may use, or the GPU's
                                         // free memory less kGpuReserveBytes
};

// One addend of the memory ceiling.
struct MemoryUse {
  std::string user;  // who holds it, e.g. "state pool"
  std::uint64_t bytes = 0;
};

// What is left of a GPU's free memory for graphs and for what its driver takes later.
inline constexpr std::uint64_t kGpuReserveBytes = std::uint64_t{1} << 30;

// Must outlive its buffers and streams. Allocate and the ledger are safe on any thread.
class Device {
 public:
  // Errors of ProbeGpu (gpu_probe.h) and SelectCpuPath.
  static absl::StatusOr<std::unique_ptr<Device>> Create(const DeviceOptions& options = {});
  ~Device();
  Device(const Device&) = delete;
  Device& operator=(const Device&) = delete;

  DeviceKind kind() const { return kind_; }
  bool is_gpu() const { return kind_ == DeviceKind::kCuda; }
  CpuPath cpu_path() const { return cpu_path_; }
  const GpuProperties& gpu() const { return gpu_; }  // of a GPU
  int ordinal() const { return ordinal_; }           // of a GPU
  ThreadPool& pool() { return pool_; }

  // What the bits of a result depend on, for the numerics id: "cpu-avx2", "cuda-90".
  std::string Architecture() const;

  // Binds the calling thread to a GPU; cheap when it already is. Allocate and Stream do it themselves.
  absl::Status MakeCurrent();

  // ResourceExhausted naming `user` when the ledger's ceiling or the system refuses. 0 bytes is allowed.
  absl::StatusOr<DeviceBuffer> Allocate(std::size_t bytes, std::string_view user, Fill fill = Fill::kNone);

  // One entry per user that ever allocated, in the order of first use.
  std::vector<MemoryUse> Ledger() const;
  // What a GPU's memory is short of beside the ledger: context and modules (with whatever other processes
  // held when this device was made), then graphs and the rounding of allocations. Empty on the CPU.
  absl::StatusOr<std::vector<MemoryUse>> Overhead();
  std::uint64_t bytes_in_use() const;
  // What HostBuffers hold of the host's memory, pinned on a GPU: no part of the ledger.
  std::uint64_t host_bytes() const { return host_bytes_; }
  std::uint64_t memory_limit_bytes() const { return memory_limit_bytes_; }

 private:
  friend class DeviceBuffer;
  friend class HostBuffer;
  Device(const DeviceOptions& options, CpuPath cpu_path, const GpuProperties& gpu);
  absl::StatusOr<void*> AllocateOnGpu(std::size_t bytes, std::string_view user, Fill fill);
  void Free(void* data);
  absl::StatusOr<std::size_t> Charge(std::size_t bytes, std::string_view user);
  void Refund(std::size_t bytes, std::size_t user);
  std::string LargestUse() const;  // "; the largest user is ...". REQUIRES: mutex_

  const DeviceKind kind_;
  const CpuPath cpu_path_;
  const GpuProperties gpu_;
  const int ordinal_;
  const std::uint64_t memory_limit_bytes_;
  ThreadPool pool_;
  mutable std::mutex mutex_;
  std::vector<MemoryUse> ledger_;   // guarded by mutex_
  std::uint64_t bytes_in_use_ = 0;  // guarded by mutex_
  std::atomic<std::uint64_t> host_bytes_ = 0;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_DEVICE_H_
