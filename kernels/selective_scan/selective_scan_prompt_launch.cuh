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
      dim3(static_cast<unsigned>((padded + per_block - 1) / per_block), static_cast<unsigned>(chunks)),
      warps * 32, Layout::SharedBytes(warps)};
  return LaunchKernel(stream, SelectiveScanPromptKernel<kLanes, kStates>, launch, scan);
}

// For N = 16. Blocks take so much shared memory that no multiprocessor gets more than its share of them, also
// when they are placed while the kernel before still runs on some.
inline cudaError_t LaunchScan16(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t chunks,
                                int warps) {
  const std::int64_t padded = Slabs(scan.channels) * kSlabChannels;
  const std::int64_t per_block = static_cast<std::int64_t>(warps) * Scan16::kChannels;
  const std::int64_t blocks = (padded + per_block - 1) / per_block;
  const int multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t share = (blocks * chunks + multiprocessors - 1) / multiprocessors;
  const int all = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerMultiprocessor);
  const int most = DeviceAttribute(cudaDevAttrMaxSharedMemoryPerBlockOptin);
  const int fair = share <= 4 ? static_cast<int>(all / share) - 2048 : 0;
  const int shared = std::max(Scan16::SharedBytes(warps), std::min(fair, most) / 1024 * 1024);
  const LaunchShape launch{dim3(static_cast<unsigned>(blocks), static_cast<unsigned>(chunks)), warps * 32,
                           shared};
  return LaunchKernel(stream, SelectiveScanPrompt16Kernel, launch, scan);
}

// Small blocks, which the multiprocessors share evenly; fewer warps still where the channels do not go round.
inline cudaError_t LaunchScan16(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t chunks) {
  const std::int64_t multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t warps = (scan.channels + Scan16::kChannels - 1) / Scan16::kChannels * chunks;
  const std::int64_t share = (warps + multiprocessors - 1) / multiprocessors;
  return LaunchScan16(stream, scan, chunks, static_cast<int>(std::clamp<std::int64_t>(share, 2, 4)));
}

inline cudaError_t LaunchSelectiveScanPrompt(cudaStream_t stream, const SelectiveScanPrompt& scan,
                                             std::int64_t chunks) {
  switch (PaddedStateSize(scan.state_size)) {
    case 8:
      return LaunchScan<4, 2>(stream, scan, chunks, 4);
    case 16:
      return scan.state_size == 16 ? LaunchScan16(stream, scan, chunks)
                                   : LaunchScan<8, 2>(stream, scan, chunks, 4);
    case 32:
      return LaunchScan<8, 4>(stream, scan, chunks, 4);
    case 64:
      return LaunchScan<16, 4>(stream, scan, chunks, 4);
    case 128:
      return LaunchScan<32, 4>(stream, scan, chunks, 4);
    default:
      return LaunchScan<32, 8>(stream, scan, chunks, 4);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_
