// x_proj of small layers, folded into in_proj: a block of in_proj that completes 32 channels of x multiplies
// them by their columns of x_proj at once, and the state kernel adds what all blocks found. One launch a
// layer less, where launches are what a step waits for.
//
// The order of these sums, for every number of rows: a segment is 32 channels, whose two k16 steps go into an
// accumulator that starts at 0; kFoldGroup segments are added in ascending order, then the groups' sums.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_H_

#include <cstdint>

#include "kernels/mamba_layer/mamba_layer_weights.h"

namespace mambad::kernels {

inline constexpr int kFoldChannels = 32;               // a segment
inline constexpr int kFoldTiles = kFoldChannels / 16;  // of in_proj, a block
inline constexpr int kFoldGroup = 8;                   // segments
inline constexpr int kFoldStride = 128;                // floats between segments: the widest R + 2 N
inline constexpr int kMostFoldGroups = 8;              // one for each warp of the state kernel
inline constexpr int kFoldGroupChannels = kFoldGroup * kFoldChannels;

// Whether a layer is small enough that every block of the state kernel reads all segments of its row in less
// time than a launch takes, and its blocks of in_proj have the warps: follows from the weights' shapes alone.
inline bool FoldsXProj(const PackedWeight& in_proj, const PackedWeight& x_proj) {
  constexpr int kMostWarps = 8;
  const int warps = in_proj.segments() * kFoldTiles;  // of a block of in_proj; each takes 16 rows of x_proj
  return x_proj.cols % kFoldGroupChannels == 0 && x_proj.cols <= kMostFoldGroups * kFoldGroupChannels &&
         warps <= kMostWarps && x_proj.rows <= warps * 16;
}

// Of all segments of a row.
constexpr std::int64_t FoldFloats(int d_inner) {
  return d_inner > kMostFoldGroups * kFoldGroupChannels ? 0 : d_inner / kFoldChannels * kFoldStride;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_X_PROJ_FOLD_H_
