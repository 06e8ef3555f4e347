// The order of work on a device. On the CPU an op has finished when it returns; on a GPU it has been
// enqueued.
#ifndef MAMBAD_KERNELS_DEVICE_STREAM_H_
#define MAMBAD_KERNELS_DEVICE_STREAM_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <utility>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/device.h"

namespace mambad::kernels {

// A recorded sequence of ops that a GPU repeats with the same pointers and sizes. Movable; must not outlive
// its device.
class Graph {
 public:
  Graph() = default;  // holds nothing
  Graph(Graph&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
  Graph& operator=(Graph&& other) noexcept {
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Graph();

  bool held() const { return handle_ != nullptr; }

 private:
  friend class Stream;
  explicit Graph(void* handle) : handle_(handle) {}

  void* handle_ = nullptr;
};

// A point in the work of a GPU's stream that the host can wait for. Movable; must not outlive its device.
class Event {
 public:
  static absl::StatusOr<Event> Create(Device& device);
  Event() = default;  // holds nothing
  Event(Event&& other) noexcept : device_(other.device_), handle_(std::exchange(other.handle_, nullptr)) {}
  Event& operator=(Event&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(handle_, other.handle_);
    return *this;
  }
  ~Event();

  // Returns when what Stream::Record marked last has finished; at once on the CPU, or when nothing was.
  absl::Status Wait() const;

 private:
  friend class Stream;
  Event(Device& device, void* handle) : device_(&device), handle_(handle) {}

  Device* device_ = nullptr;
  void* handle_ = nullptr;
};

// One thread at a time.
class Stream {
 public:
  static constexpr std::size_t kWorkspaceBytes = std::size_t{4} << 20;

  static absl::StatusOr<std::unique_ptr<Stream>> Create(Device& device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;

  Device& device() { return *device_; }
  bool on_gpu() const { return handle_ != nullptr; }
  ThreadPool& pool() { return device_->pool(); }
  CpuPath cpu_path() const { return device_->cpu_path(); }
  // A GPU's own stream, for the launches of kernels; null on the CPU.
  void* handle() const { return handle_; }

  // Scratch of the op that runs now: kWorkspaceBytes, 64-byte aligned, contents undefined. An op that needs
  // more splits its work.
  std::span<std::byte> workspace() { return {workspace_.as<std::byte>(), workspace_.bytes()}; }

  // Returns when everything given to this stream has finished.
  absl::Status Synchronize();
  // `event` marks the end of what was given to this stream so far.
  absl::Status Record(const Event& event);

  // What ops enqueue in between is recorded and does not run. REQUIRES: a GPU.
  absl::Status BeginRecording();
  absl::StatusOr<Graph> EndRecording();
  absl::Status Replay(const Graph& graph);

 private:
  Stream(Device& device, void* handle, DeviceBuffer workspace)
      : device_(&device), handle_(handle), workspace_(std::move(workspace)) {}

  Device* device_;
  void* handle_;
  DeviceBuffer workspace_;
};

// Host memory, aligned to 64 bytes, that a GPU copies from and to without waiting, and whose kernels reach it
// (on the CPU plain memory). Movable; must not outlive its device.
class HostBuffer {
 public:
  static absl::StatusOr<HostBuffer> Create(Device& device, std::size_t bytes);
  HostBuffer() = default;
  HostBuffer(HostBuffer&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)), bytes_(other.bytes_) {}
  HostBuffer& operator=(HostBuffer&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(bytes_, other.bytes_);
    return *this;
  }
  ~HostBuffer();

  template <class T>
  T* as() const {
    return static_cast<T*>(data_);
  }
  std::size_t bytes() const { return bytes_; }

 private:
  Device* device_ = nullptr;
  void* data_ = nullptr;
  std::size_t bytes_ = 0;
};

// Copies and fills in stream order. Pointers are to device memory unless they say host; ranges of one copy
// must not overlap. Host memory may be reused when the call returns, but for a HostBuffer, which a GPU reads
// and writes until Synchronize; after CopyToHost call Synchronize before reading.
absl::Status CopyToDevice(Stream& stream, void* destination, const void* host_source, std::size_t bytes);
absl::Status CopyToHost(Stream& stream, void* host_destination, const void* source, std::size_t bytes);
absl::Status CopyOnDevice(Stream& stream, void* destination, const void* source, std::size_t bytes);
absl::Status FillBytes(Stream& stream, void* destination, std::uint8_t value, std::size_t bytes);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_STREAM_H_
