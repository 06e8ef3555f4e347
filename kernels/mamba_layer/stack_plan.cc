#include "kernels/mamba_layer/stack_plan.h"

#include <algorithm>
#include <climits>
#include <utility>
#include <vector>

#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {
namespace {

ProductPlan PlanOf(const PackedWeight& weight, int segments, int tiles) {
  const int unit_rows = tiles * kPlanTileRows;
  return {.rows = weight.rows,
          .k_pad = weight.k_pad(),
          .chunks = weight.chunks(),
          .segments = segments,
          .segment_chunks = segments == 1 ? weight.chunks() : weight.segment_chunks(),
          .tiles = tiles,
          .units = (weight.rows + unit_rows - 1) / unit_rows};
}

ProductPlan PlanOf(const PackedWeight& weight) {
  return PlanOf(weight, weight.segments(), kPlanWarps / weight.segments());
}

// All of K at once, as dt_proj's sums are, and as few tiles as give a block one unit at most, while its warps
// suffice for all rows.
ProductPlan DtPlanOf(const PackedWeight& weight, int blocks) {
  int tiles = 1;
  while (tiles < kPlanWarps / kMostStackRows && weight.rows > blocks * tiles * kPlanTileRows) tiles *= 2;
  return PlanOf(weight, 1, tiles);
}

// Where each product's units begin, so that blocks read alike: first the busiest block counts, then the
// squares of all. Units of unlike products are about as large, but for dt_proj's.
void Deal(ProductPlan (&plans)[kStackProducts], int blocks) {
  std::vector<int> units(blocks);
  for (const StackProduct product : {kInProj, kXProj, kOutProj, kDtProj}) {
    ProductPlan& plan = plans[product];
    std::pair<int, int> least = {INT_MAX, INT_MAX};
    for (int first = 0; first < blocks; ++first) {
      std::pair<int, int> cost = {0, 0};
      for (int i = 0; i < blocks; ++i) {
        const int n = units[(first + i) % blocks] + (plan.units + blocks - 1 - i) / blocks;
        cost = {std::max(cost.first, n), cost.second + n * n};
      }
      if (cost < least) least = cost, plan.first_block = first;
    }
    for (int i = 0; i < blocks; ++i)
      units[(plan.first_block + i) % blocks] += (plan.units + blocks - 1 - i) / blocks;
  }
}

}  // namespace

StackPlans PlanStack(const MambaLayerWeights& weights, int blocks) {
  StackPlans plans = {};
  plans.of[kInProj] = PlanOf(weights.in_proj);
  plans.of[kXProj] = PlanOf(weights.x_proj);
  plans.of[kDtProj] = DtPlanOf(weights.dt_proj, blocks);
  plans.of[kOutProj] = PlanOf(weights.out_proj);
  Deal(plans.of, blocks);
  return plans;
}

}  // namespace mambad::kernels
