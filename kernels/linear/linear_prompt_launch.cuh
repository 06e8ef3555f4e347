// Which kernel and tile a prompt product takes.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/base/check.h"
#include "kernels/device/launch.cuh"
#include "kernels/linear/core_matrices.h"
#include "kernels/linear/linear_prompt_general.cuh"
#include "kernels/linear/linear_prompt_hopper.cuh"

namespace mambad::kernels {

// A block's tile: token tiles x columns. What it takes of the time, for each token and column of a cluster,
// is rate * K + ending, measured on an H100 with K of 768 and 2,560; rate is relative to that of 128 x 256.
struct PromptTile {
  int tiles, columns;
  PromptShared shared;
  int rate, ending;

  constexpr bool operator==(const PromptTile& other) const {
    return tiles == other.tiles && columns == other.columns && shared == other.shared;
  }
  // Beside the sums of wider ones a thread has no registers for what it adds to.
  constexpr bool FitsAdding() const { return tiles * columns <= 320; }
  constexpr bool shares_x() const { return shared == PromptShared::kActivations; }
  // Of a cluster.
  constexpr int cluster_tiles() const { return shares_x() ? tiles : tiles * kClusterBlocks; }
  constexpr int cluster_columns() const { return shares_x() ? columns * kClusterBlocks : columns; }
};
inline constexpr PromptTile kPromptTiles[] = {
    {1, 256, PromptShared::kWeights, 100, 0},       {1, 192, PromptShared::kWeights, 98, 11000},
    {1, 160, PromptShared::kWeights, 108, 8000},    {1, 128, PromptShared::kWeights, 105, 9000},
    {1, 96, PromptShared::kWeights, 142, 0},        {2, 192, PromptShared::kActivations, 90, 12000},
    {2, 160, PromptShared::kActivations, 95, 9000}, {1, 96, PromptShared::kActivations, 153, 0},
    {1, 64, PromptShared::kActivations, 167, 0},    {1, 32, PromptShared::kActivations, 280, 0}};

// Rounds that so many clusters take over a product's tiles.
inline std::int64_t PromptRounds(const PromptTile& tile, std::int64_t rows, std::int32_t token_tiles,
                                 int segments, int clusters) {
  const int columns = tile.cluster_columns(), across = tile.cluster_tiles();
  const std::int64_t tiles =
      (rows + columns - 1) / columns * ((token_tiles + across - 1) / across) * segments;
  return (tiles + clusters - 1) / clusters;
}

// The tile that takes least. All give the same bits.
inline PromptTile ChoosePromptTile(const CoreMatrices& w, std::int32_t token_tiles, int clusters, bool adds) {
  PromptTile best = {};
  std::int64_t best_cost = 0;
  for (const PromptTile tile : kPromptTiles) {
    if (adds && !tile.FitsAdding()) continue;
    const std::int64_t cost = PromptRounds(tile, w.rows, token_tiles, 1, clusters) * tile.cluster_columns() *
                              tile.cluster_tiles() * (tile.rate * w.cols + tile.ending);
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
  if constexpr (Epilogue::kScales) {
    // A cluster keeps its tokens, whose scales it finds anew otherwise, where that takes no more rounds.
    const int across = std::min(ClusterTile<Product>::kGroupWidth, ClusterTile<Product>::Across(shape));
    const int whole = clusters / across * across;
    if (whole > 0 && (tiles + whole - 1) / whole == (tiles + clusters - 1) / clusters) clusters = whole;
  }
  const LaunchShape launch{dim3(kClusterBlocks * std::min(tiles, clusters)),
                           PromptThreads<Product, Epilogue>(), Product::kSharedBytes, kClusterBlocks};
  return LaunchKernel(stream, LinearPromptHopper<Product, Epilogue>, launch, shape, epilogue);
}

template <class Epilogue>
cudaError_t LaunchPromptTile(cudaStream_t stream, PromptTile tile, const LinearPromptShape& shape,
                             const CoreMatrices& w, const Epilogue& epilogue, int clusters) {
  return WithListed<kPromptTiles>(tile, [&]<PromptTile kTile>() {
    if constexpr (Epilogue::kAdds && !kTile.FitsAdding()) {
      MAMBAD_CHECK(false);
      return cudaErrorInvalidValue;
    } else {
      const auto launch = [&]<int kBlocksOfTile>() {
        using Product = PromptProduct<kTile.columns, kTile.tiles, kTile.shared, 1, kBlocksOfTile>;
        return LaunchLinearPromptHopper<Product>(stream, shape, w, epilogue, clusters);
      };
      if constexpr (kTile.shares_x() && kTile.columns <= 64) {  // those that passes of few tokens take
        if (shape.live_blocks <= 4) return launch.template operator()<4>();
        if (shape.live_blocks <= 8) return launch.template operator()<8>();
      }
      return launch.template operator()<kTokenTile / 8>();
    }
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
  return LaunchPromptTile(stream, ChoosePromptTile(w, shape.token_tiles, clusters, Epilogue::kAdds), shape, w,
                          epilogue, clusters);
}

// Two blocks share a multiprocessor, so that one's product hides the other's epilogue.
template <int kCols, PromptShared kShared, class Epilogue>
cudaError_t LaunchShortPrompt(cudaStream_t stream, const LinearPromptShape& shape, const CoreMatrices& w,
                              const Epilogue& epilogue) {
  return LaunchLinearPromptHopper<PromptProduct<kCols, 1, kShared, 2>>(stream, shape, w, epilogue,
                                                                       2 * PromptClusters());
}

// The same where K is short, or cut in `segments`, a constant of the weight.
template <class Epilogue>
cudaError_t ShortLinearPrompt(cudaStream_t stream, const CoreMatrices& w, const void* x, std::int64_t tokens,
                              const Epilogue& epilogue, int segments = 1) {
  const LinearPromptShape shape = MakeLinearPromptShape(w, x, tokens, segments);
  if (!PromptHasWgmma()) return LaunchLinearPromptGeneral(stream, shape, w, epilogue);
  if (shape.token_tiles == 1) {
    return LaunchShortPrompt<32, PromptShared::kActivations>(stream, shape, w, epilogue);
  }
  // What the longest cluster has to do, in columns.
  const auto columns = [&](int of_tile) {
    const PromptTile tile = {1, of_tile, PromptShared::kWeights};
    return of_tile * PromptRounds(tile, w.rows, shape.token_tiles, shape.segments, 2 * PromptClusters());
  };
  return columns(96) < columns(64)
             ? LaunchShortPrompt<96, PromptShared::kWeights>(stream, shape, w, epilogue)
             : LaunchShortPrompt<64, PromptShared::kWeights>(stream, shape, w, epilogue);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
