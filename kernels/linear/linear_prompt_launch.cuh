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
  PromptShared shared;

  bool operator==(const PromptTile&) const = default;
  constexpr bool shares_x() const { return shared == PromptShared::kActivations; }
  // Of a cluster.
  constexpr int cluster_tiles() const { return shares_x() ? tiles : tiles * kClusterBlocks; }
  constexpr int cluster_columns() const { return shares_x() ? columns * kClusterBlocks : columns; }
};
inline constexpr PromptTile kPromptTiles[] = {
    {1, 256, PromptShared::kWeights},     {1, 192, PromptShared::kWeights},
    {1, 160, PromptShared::kWeights},     {1, 128, PromptShared::kWeights},
    {1, 96, PromptShared::kWeights},      {2, 192, PromptShared::kActivations},
    {2, 160, PromptShared::kActivations}, {2, 128, PromptShared::kActivations},
    {1, 96, PromptShared::kActivations},  {1, 64, PromptShared::kActivations},
    {1, 32, PromptShared::kActivations}};

// The tile that wastes least: whole rounds of the clusters, each as long as what a cluster reads of the
// weight and of the activations, and a tenth more where they share the latter. All give the same bits.
inline PromptTile ChoosePromptTile(std::int64_t rows, std::int32_t token_tiles, int clusters) {
  PromptTile best = {};
  std::int64_t best_cost = 0;
  for (const PromptTile tile : kPromptTiles) {
    const int columns = tile.cluster_columns(), across = tile.cluster_tiles();
    const std::int64_t tiles = (rows + columns - 1) / columns * ((token_tiles + across - 1) / across);
    const std::int64_t cost =
        (tiles + clusters - 1) / clusters * (columns + across * kTokenTile) * (tile.shares_x() ? 11 : 10);
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
  shape.live_blocks = static_cast<std::int32_t>((tokens + 7) / 8);
  shape.slabs = static_cast<std::int32_t>(w.slabs());
  shape.row_blocks = static_cast<std::int32_t>(w.row_blocks());
  shape.segment_slabs = (shape.slabs + segments - 1) / segments;
  shape.segments = (shape.slabs + shape.segment_slabs - 1) / shape.segment_slabs;
  return shape;
}

template <class Product, class Epilogue>
cudaError_t LaunchLinearPromptHopper(cudaStream_t stream, LinearPromptShape shape, const CoreMatrices& w,
                                     const Epilogue& epilogue, int clusters) {
  shape.column_tiles = static_cast<std::int32_t>((w.rows + Product::kCols - 1) / Product::kCols);
  const int tiles = ClusterTile<Product>::Count(shape);
  const LaunchShape launch{dim3(kClusterBlocks * std::min(tiles, clusters)), Product::kThreads,
                           Product::kSharedBytes, kClusterBlocks};
  return LaunchKernel(stream, LinearPromptHopper<Product, Epilogue>, launch, shape, epilogue);
}

template <class Epilogue>
cudaError_t LaunchPromptTile(cudaStream_t stream, PromptTile tile, const LinearPromptShape& shape,
                             const CoreMatrices& w, const Epilogue& epilogue, int clusters) {
  return WithListed<kPromptTiles>(tile, [&]<PromptTile kTile>() {
    const auto launch = [&]<int kBlocksOfTile>() {
      using Product = PromptProduct<kTile.columns, kTile.tiles, kTile.shared, 1, kBlocksOfTile>;
      return LaunchLinearPromptHopper<Product>(stream, shape, w, epilogue, clusters);
    };
    if constexpr (kTile.shares_x() && kTile.columns <= 64) {  // those that passes of few tokens take
      if (shape.live_blocks <= 4) return launch.template operator()<4>();
      if (shape.live_blocks <= 8) return launch.template operator()<8>();
    }
    return launch.template operator()<kTokenTile / 8>();
  });
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
  const auto launch = [&]<int kCols, PromptShared kShared>() {
    return LaunchLinearPromptHopper<PromptProduct<kCols, 1, kShared, 2>>(stream, shape, w, epilogue,
                                                                         2 * PromptClusters());
  };
  if (shape.token_tiles == 1) return launch.template operator()<32, PromptShared::kActivations>();
  return launch.template operator()<96, PromptShared::kWeights>();
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
