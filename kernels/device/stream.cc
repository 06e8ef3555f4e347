#include "kernels/device/stream.h"

#include <cstdlib>
#include <cstring>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/round_up.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_status.h"

namespace mambad::kernels {
namespace {

constexpr std::size_t kHostAlignment = 64;

}  // namespace

Graph::~Graph() {
  if (handle_ != nullptr) (void)gpu::DestroyGraph(handle_);
}

absl::StatusOr<Event> Event::Create(Device& device) {
  void* handle = nullptr;
  if (device.is_gpu()) {
    MAMBAD_RETURN_IF_ERROR(device.MakeCurrent());
    MAMBAD_RETURN_IF_ERROR(GpuStatus(gpu::CreateEvent(&handle), "creating an event"));
  }
  return Event(device, handle);
}

Event::~Event() {
  if (handle_ != nullptr) (void)gpu::DestroyEvent(handle_);
}

absl::Status Event::Wait() const {
  if (handle_ == nullptr) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(device_->MakeCurrent());
  return GpuStatus(gpu::WaitForEvent(handle_), "waiting for the device");
}

absl::StatusOr<std::unique_ptr<Stream>> Stream::Create(Device& device) {
  MAMBAD_ASSIGN_OR_RETURN(DeviceBuffer workspace,
                          device.Allocate(kWorkspaceBytes, "op workspace", Fill::kZero));
  void* handle = nullptr;
  if (device.is_gpu()) {
    MAMBAD_RETURN_IF_ERROR(device.MakeCurrent());
    MAMBAD_RETURN_IF_ERROR(GpuStatus(gpu::CreateStream(&handle), "creating a stream"));
  }
  return std::unique_ptr<Stream>(new Stream(device, handle, std::move(workspace)));
}

Stream::~Stream() {
  if (!on_gpu()) return;
  // A lost device fails here; nothing is left to do for it.
  (void)device_->MakeCurrent();
  (void)gpu::Synchronize(handle_);
  (void)gpu::DestroyStream(handle_);
}

absl::Status Stream::Synchronize() {
  if (!on_gpu()) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(device_->MakeCurrent());
  return GpuStatus(gpu::Synchronize(handle_), "waiting for the device");
}

absl::Status Stream::Record(const Event& event) {
  if (!on_gpu()) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(device_->MakeCurrent());
  return GpuStatus(gpu::RecordEvent(event.handle_, handle_), "recording an event");
}

absl::Status Stream::BeginRecording() {
  MAMBAD_CHECK(on_gpu());
  MAMBAD_RETURN_IF_ERROR(device_->MakeCurrent());
  return GpuStatus(gpu::BeginCapture(handle_), "recording a graph");
}

absl::StatusOr<Graph> Stream::EndRecording() {
  void* graph = nullptr;
  MAMBAD_RETURN_IF_ERROR(GpuStatus(gpu::EndCapture(handle_, &graph), "recording a graph"));
  return Graph(graph);
}

absl::Status Stream::Replay(const Graph& graph) {
  MAMBAD_CHECK(graph.held());
  MAMBAD_RETURN_IF_ERROR(device_->MakeCurrent());
  return GpuStatus(gpu::LaunchGraph(handle_, graph.handle_), "launching a graph");
}

absl::StatusOr<HostBuffer> HostBuffer::Create(Device& device, std::size_t bytes) {
  HostBuffer buffer;
  buffer.device_ = &device;
  buffer.bytes_ = bytes;
  if (bytes == 0) return buffer;
  if (device.is_gpu()) {
    MAMBAD_RETURN_IF_ERROR(device.MakeCurrent());
    MAMBAD_RETURN_IF_ERROR(GpuStatus(gpu::AllocatePinned(&buffer.data_, bytes), "allocating pinned memory"));
  } else {
    buffer.data_ = std::aligned_alloc(kHostAlignment, RoundUp(bytes, kHostAlignment));
    if (buffer.data_ == nullptr) {
      return absl::ResourceExhaustedError(absl::StrCat("the system refused ", bytes, " bytes of memory"));
    }
  }
  device.host_bytes_ += bytes;
  return buffer;
}

HostBuffer::~HostBuffer() {
  if (data_ == nullptr) return;
  device_->host_bytes_ -= bytes_;
  if (device_->is_gpu()) {
    (void)gpu::FreePinned(data_);
  } else {
    std::free(data_);
  }
}

namespace {

absl::Status Copy(Stream& stream, void* to, const void* from, std::size_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  if (!stream.on_gpu()) {
    std::memcpy(to, from, bytes);
    return absl::OkStatus();
  }
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  return GpuStatus(gpu::Copy(stream.handle(), to, from, bytes), "copying");
}

}  // namespace

absl::Status CopyToDevice(Stream& stream, void* destination, const void* host_source, std::size_t bytes) {
  return Copy(stream, destination, host_source, bytes);
}

absl::Status CopyToHost(Stream& stream, void* host_destination, const void* source, std::size_t bytes) {
  return Copy(stream, host_destination, source, bytes);
}

absl::Status CopyOnDevice(Stream& stream, void* destination, const void* source, std::size_t bytes) {
  return Copy(stream, destination, source, bytes);
}

absl::Status FillBytes(Stream& stream, void* destination, std::uint8_t value, std::size_t bytes) {
  if (bytes == 0) return absl::OkStatus();
  if (!stream.on_gpu()) {
    std::memset(destination, value, bytes);
    return absl::OkStatus();
  }
  MAMBAD_RETURN_IF_ERROR(stream.device().MakeCurrent());
  return GpuStatus(gpu::Fill(stream.handle(), destination, value, bytes), "filling");
}

}  // namespace mambad::kernels
