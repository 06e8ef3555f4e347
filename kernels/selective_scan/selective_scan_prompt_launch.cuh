// Which lane layout and block a prompt scan takes. Neither changes a bit.
#ifndef MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_
#define MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_

#include <algorithm>

#include "kernels/device/launch.cuh"
#include "kernels/selective_scan/selective_scan_prompt.cuh"

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

// Warps of a block so that one prompt's channels fill the multiprocessors in one round, as far as they do.
inline int ScanWarps(std::int64_t channels, std::int64_t chunks, int warp_channels) {
  const std::int64_t multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t warps = (channels * chunks + warp_channels - 1) / warp_channels;
  const std::int64_t share = (warps + multiprocessors - 1) / multiprocessors;
  return static_cast<int>(std::clamp<std::int64_t>(share, 2, chunks > 1 ? 8 : 16));
}

inline cudaError_t LaunchSelectiveScanPrompt(cudaStream_t stream, const SelectiveScanPrompt& scan,
                                             std::int64_t chunks) {
  switch (PaddedStateSize(scan.state_size)) {
    case 8: return LaunchScan<4, 2>(stream, scan, chunks, ScanWarps(scan.channels, chunks, 8));
    case 16: return LaunchScan<8, 2>(stream, scan, chunks, ScanWarps(scan.channels, chunks, 4));
    case 32: return LaunchScan<8, 4>(stream, scan, chunks, ScanWarps(scan.channels, chunks, 4));
    case 64: return LaunchScan<16, 4>(stream, scan, chunks, 4);
    case 128: return LaunchScan<32, 4>(stream, scan, chunks, 4);
    default: return LaunchScan<32, 8>(stream, scan, chunks, 4);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SELECTIVE_SCAN_SELECTIVE_SCAN_PROMPT_LAUNCH_CUH_
