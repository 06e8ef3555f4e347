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
#include "kernels/base/round_up.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_probe.h"
#include "kernels/device/gpu_status.h"

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
  const std::size_t rounded = RoundUp(bytes, alignment);
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
  device_->Free(data_);
  device_->Refund(bytes_, user_);
}

absl::StatusOr<std::unique_ptr<Device>> Device::Create(const DeviceOptions& options) {
  MAMBAD_ASSIGN_OR_RETURN(const CpuPath path, SelectCpuPath());
  GpuProperties gpu;
  if (options.kind == DeviceKind::kCuda) {
    MAMBAD_ASSIGN_OR_RETURN(gpu, ProbeGpu(options.ordinal));
    if (options.memory_limit_bytes > gpu.free_bytes || gpu.free_bytes <= kGpuReserveBytes) {
      return absl::ResourceExhaustedError(
          absl::StrCat("device cuda:", options.ordinal, ": ", gpu.free_bytes, " bytes are free, ",
                       std::max(options.memory_limit_bytes, kGpuReserveBytes), " are needed"));
    }
  }
  return std::unique_ptr<Device>(new Device(options, path, gpu));
}

Device::Device(const DeviceOptions& options, CpuPath cpu_path, const GpuProperties& gpu)
    : kind_(options.kind),
      cpu_path_(cpu_path),
      gpu_(gpu),
      ordinal_(options.ordinal),
      memory_limit_bytes_(options.memory_limit_bytes > 0      ? options.memory_limit_bytes
                          : options.kind == DeviceKind::kCuda ? gpu.free_bytes - kGpuReserveBytes
                                                              : AvailableMemory()),
      pool_(options.threads) {}

Device::~Device() { MAMBAD_CHECK(bytes_in_use() == 0); }

std::string Device::Architecture() const {
  if (is_gpu()) return absl::StrCat("cuda-", gpu_.major, gpu_.minor);
  return absl::StrCat("cpu-", std::string(Name(cpu_path_)));
}

absl::Status Device::MakeCurrent() {
  return is_gpu() ? GpuStatus(gpu::Select(ordinal_), "selecting the device") : absl::OkStatus();
}

absl::StatusOr<DeviceBuffer> Device::Allocate(std::size_t bytes, std::string_view user, Fill fill) {
  MAMBAD_ASSIGN_OR_RETURN(const std::size_t entry, Charge(bytes, user));
  if (bytes == 0) return DeviceBuffer(this, nullptr, 0, entry);
  if (is_gpu()) {
    absl::StatusOr<void*> data = AllocateOnGpu(bytes, user, fill);
    if (data.ok()) return DeviceBuffer(this, *data, bytes, entry);
    Refund(bytes, entry);
    return data.status();
  }
  void* data = AllocateAligned(bytes);
  if (data == nullptr) {
    Refund(bytes, entry);
    return absl::ResourceExhaustedError(
        absl::StrCat(std::string(user), ": the system refused ", bytes, " bytes of memory"));
  }
  if (fill == Fill::kZero) std::memset(data, 0, bytes);
  return DeviceBuffer(this, data, bytes, entry);
}

absl::StatusOr<void*> Device::AllocateOnGpu(std::size_t bytes, std::string_view user, Fill fill) {
  MAMBAD_RETURN_IF_ERROR(MakeCurrent());
  void* data = nullptr;
  if (const gpu::Code code = gpu::Allocate(&data, bytes); code != 0) {
    return absl::ResourceExhaustedError(absl::StrCat(std::string(user), ": the GPU refused ", bytes,
                                                     " bytes of memory: ", std::string(gpu::Text(code))));
  }
  if (fill == Fill::kNone) return data;
  // The default stream: other streams do not wait for it, so this does.
  absl::Status filled = GpuStatus(gpu::Fill(nullptr, data, 0, bytes), user);
  if (filled.ok()) filled = GpuStatus(gpu::Synchronize(nullptr), user);
  if (filled.ok()) return data;
  Free(data);
  return filled;
}

void Device::Free(void* data) {
  if (!is_gpu()) return std::free(data);
  // On a lost device both fail, and the memory goes with the process.
  (void)MakeCurrent();
  if (data != nullptr) (void)gpu::Free(data);
}

std::string Device::LargestUse() const {
  const auto largest = std::ranges::max_element(ledger_, {}, &MemoryUse::bytes);
  if (largest == ledger_.end() || largest->bytes == 0) return "";
  return absl::StrCat("; the largest user is ", largest->user, " with ", largest->bytes);
}

absl::StatusOr<std::size_t> Device::Charge(std::size_t bytes, std::string_view user) {
  std::lock_guard lock(mutex_);
  const std::uint64_t left = memory_limit_bytes_ - bytes_in_use_;
  if (bytes > left) {
    return absl::ResourceExhaustedError(absl::StrCat(std::string(user), ": ", bytes, " bytes do not fit; ",
                                                     left, " of ", memory_limit_bytes_, " bytes are left",
                                                     LargestUse()));
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

absl::StatusOr<std::vector<MemoryUse>> Device::Overhead() {
  if (!is_gpu()) return std::vector<MemoryUse>();
  MAMBAD_RETURN_IF_ERROR(MakeCurrent());
  std::uint64_t free_bytes = 0;
  MAMBAD_RETURN_IF_ERROR(GpuStatus(gpu::FreeBytes(&free_bytes), "reading the free memory"));
  const std::uint64_t taken = gpu_.free_bytes - std::min(gpu_.free_bytes, free_bytes);
  const std::uint64_t ledger = bytes_in_use();
  return std::vector<MemoryUse>{{"context and modules", gpu_.total_bytes - gpu_.free_bytes},
                                {"graphs and rounding", taken - std::min(taken, ledger)}};
}

std::uint64_t Device::bytes_in_use() const {
  std::lock_guard lock(mutex_);
  return bytes_in_use_;
}

}  // namespace mambad::kernels
