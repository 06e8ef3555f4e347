// Which kernel and tile a prompt product takes.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/device/launch.cuh"
#include "kernels/linear/core_matrices.h"
#include "kernels/linear/linear_prompt_general.cuh"
#include "kernels/linear/linear_prompt_hopper.cuh"

namespace mambad::kernels {

// A block's tile: token tiles x columns.
struct PromptTile {
  int tiles, columns;
};
inline constexpr PromptTile kPromptTiles[] = {{1, 256}, {1, 192}, {1, 160}, {1, 128},
                                              {1, 96},  {2, 192}, {2, 160}, {2, 128}};

// The tile that wastes least: whole rounds of the clusters, each as long as what a block reads of the weight
// and of the activations (that many columns' worth), and a tenth more for wide blocks. All give the same
// bits.
inline PromptTile ChoosePromptTile(std::int64_t rows, std::int32_t token_tiles, int clusters) {
  constexpr int kActivations = 256;
  PromptTile best = {};
  std::int64_t best_cost = 0;
  for (const PromptTile tile : kPromptTiles) {
    const int columns = tile.tiles * tile.columns;  // of a cluster
    const std::int64_t tiles = (rows + columns - 1) / columns * ((token_tiles + 1) / 2);
    const std::int64_t cost = (tiles + clusters - 1) / clusters * (columns + kActivations) * (9 + tile.tiles);
    if (best.tiles == 0 || cost < best_cost) best = tile, best_cost = cost;
  }
  return best;
}

inline LinearPromptShape MakeLinearPromptShape(const CoreMatrices& w, const void* x, std::int64_t tokens,
                                               int segments) {
  LinearPromptShape shape = {};
  shape.x = static_cast<const __nv_bfloat16*>(x);
  shape.w = static_cast<const __nv_bfloat16*>(w.data);
  shape.token_blocks = PaddedTokens(tokens) / 8;
  shape.token_tiles = static_cast<std::int32_t>(PaddedTokens(tokens) / kTokenTile);
  shape.slabs = static_cast<std::int32_t>(w.slabs());
  shape.row_blocks = static_cast<std::int32_t>(w.row_blocks());
  shape.segment_slabs = (shape.slabs + segments - 1) / segments;
  shape.segments = (shape.slabs + shape.segment_slabs - 1) / shape.segment_slabs;
  return shape;
}

template <int kCols, int kTiles, int kBlocks, class Epilogue>
cudaError_t LaunchLinearPromptHopper(cudaStream_t stream, LinearPromptShape shape, const CoreMatrices& w,
                                     const Epilogue& epilogue, int clusters) {
  using Stages = LinearStages<kCols, kTiles, kBlocks>;
  shape.column_tiles = static_cast<std::int32_t>((w.rows + kCols - 1) / kCols);
  const int column_groups = (shape.column_tiles + kTiles - 1) / kTiles;
  const int tiles = (shape.token_tiles + 1) / 2 * shape.segments * column_groups;
  const LaunchShape launch{dim3(kClusterBlocks * std::min(tiles, clusters)), Stages::kThreads,
                           Stages::kSharedBytes, kClusterBlocks};
  return LaunchKernel(stream, LinearPromptHopper<kCols, kTiles, kBlocks, Epilogue>, launch, shape, epilogue);
}

template <class Epilogue>
cudaError_t LaunchPromptTile(cudaStream_t stream, PromptTile tile, const LinearPromptShape& shape,
                             const CoreMatrices& w, const Epilogue& epilogue, int clusters) {
  const auto launch = [&]<int kTiles, int kCols>() {
    return LaunchLinearPromptHopper<kCols, kTiles, 1>(stream, shape, w, epilogue, clusters);
  };
  switch (tile.tiles * 1000 + tile.columns) {
    case 1256:
      return launch.template operator()<1, 256>();
    case 1192:
      return launch.template operator()<1, 192>();
    case 1160:
      return launch.template operator()<1, 160>();
    case 1128:
      return launch.template operator()<1, 128>();
    case 2192:
      return launch.template operator()<2, 192>();
    case 2160:
      return launch.template operator()<2, 160>();
    case 2128:
      return launch.template operator()<2, 128>();
    default:
      return launch.template operator()<1, 96>();
  }
}

template <class Epilogue>
cudaError_t LaunchLinearPromptGeneral(cudaStream_t stream, const LinearPromptShape& shape,
                                      const CoreMatrices& w, const Epilogue& epilogue) {
  const LaunchShape launch{
      dim3(shape.token_tiles, static_cast<unsigned>((w.rows + kGeneralColumns - 1) / kGeneralColumns),
           shape.segments),
      256};
  return LaunchKernel(stream, LinearPromptGeneral<Epilogue>, launch, shape, epilogue);
}

inline bool PromptHasWgmma() { return DeviceAttribute(cudaDevAttrComputeCapabilityMajor) == 9; }
inline int PromptClusters() { return DeviceAttribute(cudaDevAttrMultiProcessorCount) / kClusterBlocks; }

// y = x w^T for all `tokens` rows of x, handed to the epilogue.
template <class Epilogue>
cudaError_t LinearPrompt(cudaStream_t stream, const CoreMatrices& w, const void* x, std::int64_t tokens,
                         const Epilogue& epilogue) {
  const LinearPromptShape shape = MakeLinearPromptShape(w, x, tokens, 1);
  if (!PromptHasWgmma()) return LaunchLinearPromptGeneral(stream, shape, w, epilogue);
  const int clusters = PromptClusters();
  return LaunchPromptTile(stream, ChoosePromptTile(w.rows, shape.token_tiles, clusters), shape, w, epilogue,
                          clusters);
}

// The same where K is short, or cut in `segments`, a constant of the weight: two blocks share a
// multiprocessor, so that one's product hides the other's epilogue.
template <class Epilogue>
cudaError_t ShortLinearPrompt(cudaStream_t stream, const CoreMatrices& w, const void* x, std::int64_t tokens,
                              const Epilogue& epilogue, int segments = 1) {
  const LinearPromptShape shape = MakeLinearPromptShape(w, x, tokens, segments);
  if (!PromptHasWgmma()) return LaunchLinearPromptGeneral(stream, shape, w, epilogue);
  return LaunchLinearPromptHopper<96, 1, 2>(stream, shape, w, epilogue, 2 * PromptClusters());
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
