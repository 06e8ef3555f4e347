#include "kernels/device/device.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad::kernels {
namespace {

constexpr std::size_t kCacheLine = 64;
constexpr std::size_t kHugePage = std::size_t{2} << 20;

// Physical memory, or the cgroup's limit where that is lower.
std::uint64_t AvailableMemory() {
  const long pages = sysconf(_SC_PHYS_PAGES);
  const long page = sysconf(_SC_PAGESIZE);
  std::uint64_t bytes = pages > 0 && page > 0 ? static_cast<std::uint64_t>(pages) * page : UINT64_MAX;
  std::ifstream file("/sys/fs/cgroup/memory.max");
  std::uint64_t limit = 0;
  if (file >> limit && limit > 0) bytes = std::min(bytes, limit);
  return bytes;
}

void* AllocateAligned(std::size_t bytes) {
  const std::size_t alignment = bytes >= kHugePage ? kHugePage : kCacheLine;
  const std::size_t rounded = (bytes + alignment - 1) / alignment * alignment;
  void* data = std::aligned_alloc(alignment, rounded);
#ifdef MADV_HUGEPAGE
  // Advice only: without huge pages the same bytes are read a little slower.
  if (data != nullptr && alignment == kHugePage) (void)madvise(data, rounded, MADV_HUGEPAGE);
#endif
  return data;
}

}  // namespace

std::string_view Name(DeviceKind kind) { return kind == DeviceKind::kCpu ? "cpu" : "cuda"; }

DeviceBuffer::DeviceBuffer(DeviceBuffer&& other) noexcept
    : device_(std::exchange(other.device_, nullptr)),
      data_(std::exchange(other.data_, nullptr)),
      bytes_(std::exchange(other.bytes_, 0)),
      user_(other.user_) {}

DeviceBuffer& DeviceBuffer::operator=(DeviceBuffer&& other) noexcept {
  DeviceBuffer taken(std::move(other));
  std::swap(device_, taken.device_);
  std::swap(data_, taken.data_);
  std::swap(bytes_, taken.bytes_);
  std::swap(user_, taken.user_);
  return *this;
}

DeviceBuffer::~DeviceBuffer() {
  if (device_ == nullptr) return;
  std::free(data_);
  device_->Refund(bytes_, user_);
}

absl::StatusOr<std::unique_ptr<Device>> Device::Create(const DeviceOptions& options) {
  if (options.kind == DeviceKind::kCuda) {
    return absl::FailedPreconditionError("device cuda: this build has no CUDA kernels");
  }
  MAMBAD_ASSIGN_OR_RETURN(const CpuPath path, SelectCpuPath());
  return std::unique_ptr<Device>(new Device(options, path));
}

Device::Device(const DeviceOptions& options, CpuPath cpu_path)
    : kind_(options.kind),
      cpu_path_(cpu_path),
      memory_limit_bytes_(options.memory_limit_bytes > 0 ? options.memory_limit_bytes : AvailableMemory()),
      pool_(options.threads) {}

Device::~Device() { MAMBAD_CHECK(bytes_in_use() == 0); }

std::string Device::Architecture() const {
  return absl::StrCat(std::string(Name(kind_)), "-", std::string(Name(cpu_path_)));
}

absl::StatusOr<DeviceBuffer> Device::Allocate(std::size_t bytes, std::string_view user, Fill fill) {
  MAMBAD_ASSIGN_OR_RETURN(const std::size_t entry, Charge(bytes, user));
  if (bytes == 0) return DeviceBuffer(this, nullptr, 0, entry);
  void* data = AllocateAligned(bytes);
  if (data == nullptr) {
    Refund(bytes, entry);
    return absl::ResourceExhaustedError(
        absl::StrCat(std::string(user), ": the system refused ", bytes, " bytes of memory"));
  }
  if (fill == Fill::kZero) std::memset(data, 0, bytes);
  return DeviceBuffer(this, data, bytes, entry);
}

absl::StatusOr<std::size_t> Device::Charge(std::size_t bytes, std::string_view user) {
  std::lock_guard lock(mutex_);
  const std::uint64_t left = memory_limit_bytes_ - bytes_in_use_;
  if (bytes > left) {
    return absl::ResourceExhaustedError(absl::StrCat(std::string(user), ": ", bytes, " bytes do not fit; ",
                                                     left, " of ", memory_limit_bytes_, " bytes are left"));
  }
  auto entry =
      std::find_if(ledger_.begin(), ledger_.end(), [&](const MemoryUse& use) { return use.user == user; });
  if (entry == ledger_.end()) entry = ledger_.insert(entry, MemoryUse{std::string(user), 0});
  entry->bytes += bytes;
  bytes_in_use_ += bytes;
  return static_cast<std::size_t>(entry - ledger_.begin());
}

void Device::Refund(std::size_t bytes, std::size_t user) {
  std::lock_guard lock(mutex_);
  ledger_[user].bytes -= bytes;
  bytes_in_use_ -= bytes;
}

std::vector<MemoryUse> Device::Ledger() const {
  std::lock_guard lock(mutex_);
  return ledger_;
}

std::uint64_t Device::bytes_in_use() const {
  std::lock_guard lock(mutex_);
  return bytes_in_use_;
}

absl::StatusOr<std::unique_ptr<Stream>> Stream::Create(Device& device) {
  MAMBAD_ASSIGN_OR_RETURN(DeviceBuffer workspace,
                          device.Allocate(kWorkspaceBytes, "op workspace", Fill::kZero));
  return std::unique_ptr<Stream>(new Stream(device, std::move(workspace)));
}

absl::Status Stream::Synchronize() { return absl::OkStatus(); }

absl::Status CopyToDevice(Stream&, void* destination, const void* host_source, std::size_t bytes) {
  if (bytes > 0) std::memcpy(destination, host_source, bytes);
  return absl::OkStatus();
}

absl::Status CopyToHost(Stream&, void* host_destination, const void* source, std::size_t bytes) {
  if (bytes > 0) std::memcpy(host_destination, source, bytes);
  return absl::OkStatus();
}

absl::Status CopyOnDevice(Stream&, void* destination, const void* source, std::size_t bytes) {
  if (bytes > 0) std::memcpy(destination, source, bytes);
  return absl::OkStatus();
}

absl::Status FillBytes(Stream&, void* destination, std::uint8_t value, std::size_t bytes) {
  if (bytes > 0) std::memset(destination, value, bytes);
  return absl::OkStatus();
}

}  // namespace mambad::kernels
