// Which lane layout and block a prompt scan takes. Neither changes a bit.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_

#include <algorithm>

#include "kernels/device/launch.cuh"
#include "kernels/selective_scan/selective_scan_prompt.cuh"
#include "kernels/selective_scan/selective_scan_prompt16.cuh"

namespace mambad::kernels {

// N as the lanes hold it: a power of two, at least 8.
constexpr std::int64_t PaddedStateSize(std::int64_t state_size) {
  std::int64_t padded = 8;
  while (padded < state_size) padded *= 2;
  return padded;
}

template <int kLanes, int kStates>
cudaError_t LaunchScan(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t chunks, int warps) {
  using Layout = ScanLayout<kLanes, kStates>;
  const std::int64_t padded = Slabs(scan.channels) * kSlabChannels;
  const std::int64_t per_block = static_cast<std::int64_t>(warps) * Layout::kChannels;
  const LaunchShape launch{
      dim3(static_cast<unsigned>((padded + per_block - 1) / per_block), static_cast<unsigned>(chunks)), warps * 32,
      Layout::SharedBytes(warps)};
  return LaunchDependent(stream, SelectiveScanPromptKernel<kLanes, kStates>, launch, scan);
}

// For N = 16. Blocks take so much shared memory that no multiprocessor gets more than its share of them, also
// when they are placed while the kernel before still runs on some.
template <int kLanes>
cudaError_t LaunchScan16(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t chunks, int warps) {
  using Layout = Scan16Layout<kLanes>;
  const std::int64_t padded = Slabs(scan.channels) * kSlabChannels;
  const std::int64_t per_block = static_cast<std::int64_t>(warps) * Layout::kChannels;
  const std::int64_t blocks = (padded + per_block - 1) / per_block;
  const int multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t share = (blocks * chunks + multiprocessors - 1) / multiprocessors;
  const int all = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  const int most = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const int fair = share <= 8 ? static_cast<int>(all / share) - 2048 : 0;
  const int shared = std::max(Layout::SharedBytes(warps), std::min(fair, most) / 1024 * 1024);
  const LaunchShape launch{dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(chunks)), warps * 32, shared};
  return LaunchDependent(stream, SelectiveScanPrompt16Kernel<kLanes>, launch, scan);
}

// Eight lanes a channel make warps enough for a single prompt; with many warps four lanes do less work.
inline cudaError_t LaunchScan16(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t chunks) {
  const std::int64_t multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t channels = scan.channels * chunks;
  if (channels >= multiprocessors * 4 * 8 * 3) return LaunchScan16<4>(stream, scan, chunks, 4);
  // One round of blocks, as far as the channels go.
  const std::int64_t share = (channels + 4 * multiprocessors - 1) / (4 * multiprocessors);
  return LaunchScan16<8>(stream, scan, chunks, static_cast<int>(std::clamp<std::int64_t>(share, 2, 16)));
}

inline cudaError_t LaunchSelectiveScanPrompt(cudaStream_t stream, const SelectiveScanPrompt& scan,
                                             std::int64_t chunks) {
  switch (PaddedStateSize(scan.state_size)) {
    case 8: return LaunchScan<4, 2>(stream, scan, chunks, 4);
    case 16: return scan.state_size == 16 ? LaunchScan16(stream, scan, chunks) : LaunchScan<8, 2>(stream, scan, chunks, 4);
    case 32: return LaunchScan<8, 4>(stream, scan, chunks, 4);
    case 64: return LaunchScan<16, 4>(stream, scan, chunks, 4);
    case 128: return LaunchScan<32, 4>(stream, scan, chunks, 4);
    default: return LaunchScan<32, 8>(stream, scan, chunks, 4);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_
