// Which kernel and tile a prompt product takes: one per weight, never from T.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_

#include <cuda_runtime.h>

#include <algorithm>

#include "kernels/device/launch.cuh"
#include "kernels/linear/core_matrices.h"
#include "kernels/linear/linear_prompt_general.cuh"
#include "kernels/linear/linear_prompt_hopper.cuh"

namespace mambad::kernels {

inline constexpr int kPromptColumns[] = {256, 192, 160, 128, 96};
// Up to this K (dt_proj's) two blocks share a multiprocessor.
inline constexpr int kShortSlabs = 4;

// The width of a tile that wastes least at a prompt of 2,048 tokens: whole rounds of the clusters, each as
// long as its tile is wide plus what filling and draining it costs.
inline int PromptColumns(std::int64_t rows, int segments, int clusters) {
  constexpr int kPairs = 2048 / kTokenTile / kClusterBlocks, kOverhead = 24;
  int best = 0;
  std::int64_t best_cost = 0;
  for (const int columns : kPromptColumns) {
    const std::int64_t tiles = (rows + columns - 1) / columns * segments * kPairs;
    const std::int64_t cost = (tiles + clusters - 1) / clusters * (columns + kOverhead);
    if (best == 0 || cost < best_cost) best = columns, best_cost = cost;
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

template <int kCols, int kBlocks, class Epilogue>
cudaError_t LaunchLinearPromptHopper(cudaStream_t stream, LinearPromptShape shape, const CoreMatrices& w,
                                     const Epilogue& epilogue, int clusters) {
  shape.column_tiles = static_cast<std::int32_t>((w.rows + kCols - 1) / kCols);
  const int tiles = (shape.token_tiles + 1) / kClusterBlocks * shape.segments * shape.column_tiles;
  const LaunchShape launch{dim3(kClusterBlocks * std::min(tiles, clusters)), kLinearPromptThreads,
                           LinearStages<kCols, kBlocks>::kSharedBytes, kClusterBlocks};
  return LaunchKernel(stream, LinearPromptHopper<kCols, kBlocks, Epilogue>, launch, shape, epilogue);
}

// y = x w^T for all `tokens` rows of x, handed to the epilogue. `segments` is a constant of the weight.
template <class Epilogue>
cudaError_t LinearPrompt(cudaStream_t stream, const CoreMatrices& w, const void* x, std::int64_t tokens,
                         const Epilogue& epilogue, int segments = 1) {
  LinearPromptShape shape = MakeLinearPromptShape(w, x, tokens, segments);
  if (DeviceAttribute(cudaDevAttrComputeCapabilityMajor) != 9) {
    const LaunchShape launch{
        dim3(shape.token_tiles, static_cast<unsigned>((w.rows + kGeneralColumns - 1) / kGeneralColumns),
             shape.segments),
        256};
    return LaunchKernel(stream, LinearPromptGeneral<Epilogue>, launch, shape, epilogue);
  }
  const int clusters = DeviceAttribute(cudaDevAttrMultiProcessorCount) / kClusterBlocks;
  if (shape.slabs <= kShortSlabs) {
    return LaunchLinearPromptHopper<96, 2>(stream, shape, w, epilogue, 2 * clusters);
  }
  switch (PromptColumns(w.rows, shape.segments, clusters)) {
    case 256:
      return LaunchLinearPromptHopper<256, 1>(stream, shape, w, epilogue, clusters);
    case 192:
      return LaunchLinearPromptHopper<192, 1>(stream, shape, w, epilogue, clusters);
    case 160:
      return LaunchLinearPromptHopper<160, 1>(stream, shape, w, epilogue, clusters);
    case 128:
      return LaunchLinearPromptHopper<128, 1>(stream, shape, w, epilogue, clusters);
    default:
      return LaunchLinearPromptHopper<96, 1>(stream, shape, w, epilogue, clusters);
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_LAUNCH_CUH_
