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

// How many tokens a tile's turn has where a block scans `at_a_time` of its `share` of tiles: what takes
// least, by chunks of equal length. A turn costs as much as kTurnTokens more.
inline std::int64_t Scan16Turn(std::int64_t tokens, std::int64_t chunks, std::int64_t share,
                               std::int64_t at_a_time) {
  const std::int64_t all = RoundUp(tokens, Scan16::kStep) + Scan16::kStep;
  if (share <= at_a_time) return all;
  constexpr std::int64_t kTurnTokens = 32;
  const std::int64_t length = (tokens + chunks - 1) / chunks;
  std::int64_t best = all, best_cost = 0;
  for (std::int64_t turns = 1; turns < Scan16Turns::kMaxTurns; ++turns) {
    const std::int64_t turn = RoundUp((length + turns - 1) / turns, Scan16::kStep);
    const std::int64_t cost = (share * turns + at_a_time - 1) / at_a_time * (turn + kTurnTokens);
    if (best_cost == 0 || cost < best_cost) best = turn, best_cost = cost;
  }
  return std::max(best, RoundUp(tokens, 32 * Scan16::kStep) / 32);
}

// Every multiprocessor gets one block, which takes so much shared memory that none gets two, also when blocks
// are placed while the kernel before still runs on some.
inline cudaError_t LaunchScan16(cudaStream_t stream, const SelectiveScanPrompt& scan, std::int64_t tokens,
                                std::int64_t chunks) {
  const std::int64_t multiprocessors = std::max(1, DeviceAttribute(cudaDevAttrMultiProcessorCount));
  const std::int64_t chunk_tiles = Slabs(scan.channels) * kSlabChannels / Scan16::kChannels;
  const std::int64_t tiles = chunk_tiles * chunks;
  const std::int64_t rounds =
      (tiles + multiprocessors * Scan16Turns::kMaxTiles - 1) / (multiprocessors * Scan16Turns::kMaxTiles);
  const std::int64_t blocks = std::min(tiles, rounds * multiprocessors);
  const std::int64_t share = (tiles + blocks - 1) / blocks;
  constexpr int kTilesAtATime = 8, kRing = 4;
  // Whole pairs of tiles keep the four schedulers alike.
  const std::int64_t at_a_time = std::min<std::int64_t>(share < 4 ? share : share / 2 * 2, kTilesAtATime);
  const Scan16Plan plan{static_cast<std::int32_t>(tiles), static_cast<std::int32_t>(chunk_tiles),
                        static_cast<std::int32_t>(Scan16Turn(tokens, chunks, share, at_a_time))};
  constexpr std::int64_t kMoreThanHalf = 120 * 1024;
  const std::int64_t shared = RoundUp(sizeof(Scan16Turns), 16) + at_a_time * kRing * sizeof(Scan16Step);
  const LaunchShape shape{dim3(static_cast<unsigned>(blocks)),
                          static_cast<int>(at_a_time) * Scan16::kWarps * 32,
                          static_cast<int>(std::max(shared, kMoreThanHalf))};
  return LaunchKernel(stream, SelectiveScanPrompt16Kernel<kTilesAtATime, kRing>, shape, scan, plan);
}

inline cudaError_t LaunchSelectiveScanPrompt(cudaStream_t stream, const SelectiveScanPrompt& scan,
                                             std::int64_t tokens, std::int64_t chunks) {
  switch (PaddedStateSize(scan.state_size)) {
    case 8:
      return LaunchScan<4, 2>(stream, scan, chunks, 4);
    case 16:
      return Scan16::Takes(scan.state_size, scan.channels) ? LaunchScan16(stream, scan, tokens, chunks)
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
