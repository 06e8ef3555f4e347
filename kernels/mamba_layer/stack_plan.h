// How the blocks of the kernel of stack_step.cuh share the products of a layer. Of the host alone.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STACK_PLAN_H_
#define MAMBAD_KERNELS_MAMBA_LAYER_STACK_PLAN_H_

#include <cstdint>

#include "kernels/mamba_layer/mamba_layer_weights.h"

namespace mambad::kernels {

inline constexpr int kPlanWarps = 8;      // that multiply, of a block
inline constexpr int kPlanTileRows = 16;  // rows of W that a warp multiplies

// Of a layer, in this order.
enum StackProduct { kInProj, kXProj, kDtProj, kOutProj, kStackProducts };

// A unit is `tiles` times kPlanTileRows rows of W, of which a block's warps multiply all segments at once.
// Unit u is block (first_block + u) % blocks' in every layer, so that one thread writes and clears a word.
struct ProductPlan {
  std::int32_t rows;  // of W
  std::int32_t k_pad;
  std::int32_t chunks;
  std::int32_t segments;
  std::int32_t segment_chunks;
  std::int32_t tiles;  // 1 or even
  std::int32_t units;
  std::int32_t first_block;
};

struct StackPlans {
  ProductPlan of[kStackProducts];
};

// For a device of so many blocks.
StackPlans PlanStack(const MambaLayerWeights& weights, int blocks);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STACK_PLAN_H_
