// How blocks share the products of a layer in the kernel for all layers: every row of every product is one
// block's, once, and no block reads much more than the others.
#include "kernels/mamba_layer/stack_plan.h"

#include <algorithm>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {
namespace {

struct Shape {
  const char* name;
  int d_model, d_inner, dt_rank;
};
const Shape kShapes[] = {{"790m", 1536, 3072, 96}, {"1.4b", 2048, 4096, 128}, {"2.8b", 2560, 5120, 160},
                         {"7b", 4096, 8192, 256},  {"small", 192, 320, 12},   {"uneven", 64, 8512, 8}};
const int kBlocks[] = {78, 114, 120, 132};  // multiprocessors

MambaLayerWeights WeightsOf(const Shape& shape) {
  constexpr int kN = 16;
  return {.in_proj = {.rows = 2 * shape.d_inner, .cols = shape.d_model},
          .x_proj = {.rows = shape.dt_rank + 2 * kN, .cols = shape.d_inner},
          .dt_proj = {.rows = shape.d_inner, .cols = shape.dt_rank},
          .out_proj = {.rows = shape.d_model, .cols = shape.d_inner}};
}
const PackedWeight& WeightOf(const MambaLayerWeights& weights, int product) {
  const PackedWeight* const all[] = {&weights.in_proj, &weights.x_proj, &weights.dt_proj, &weights.out_proj};
  return *all[product];
}
// Units of a product that a block has.
int UnitsOf(const ProductPlan& plan, int block, int blocks) {
  int count = 0;
  for (int u = (block - plan.first_block + blocks) % blocks; u < plan.units; u += blocks) ++count;
  return count;
}

TEST(StackPlanTest, EveryRowIsOneUnitsAndEveryUnitOneBlocks) {
  for (const Shape& shape : kShapes) {
    const MambaLayerWeights weights = WeightsOf(shape);
    for (const int blocks : kBlocks) {
      SCOPED_TRACE(testing::Message() << shape.name << " on " << blocks);
      const StackPlans plans = PlanStack(weights, blocks);
      for (int product = 0; product < kStackProducts; ++product) {
        const ProductPlan& plan = plans.of[product];
        const int unit_rows = plan.tiles * kPlanTileRows;
        EXPECT_EQ(plan.rows, WeightOf(weights, product).rows);
        EXPECT_GE(plan.units * unit_rows, plan.rows);
        EXPECT_LT((plan.units - 1) * unit_rows, plan.rows);
        EXPECT_TRUE(plan.first_block >= 0 && plan.first_block < blocks);
        int units = 0;
        for (int block = 0; block < blocks; ++block) units += UnitsOf(plan, block, blocks);
        EXPECT_EQ(units, plan.units);
      }
    }
  }
}

// Or a row's bits would depend on the number of rows.
TEST(StackPlanTest, SegmentsAreThoseOfThePackedWeight) {
  for (const Shape& shape : kShapes) {
    const MambaLayerWeights weights = WeightsOf(shape);
    const StackPlans plans = PlanStack(weights, 132);
    for (const int product : {kInProj, kXProj, kOutProj}) {
      const PackedWeight& weight = WeightOf(weights, product);
      EXPECT_EQ(plans.of[product].segments, weight.segments()) << shape.name;
      EXPECT_EQ(plans.of[product].segment_chunks, weight.segment_chunks()) << shape.name;
    }
    EXPECT_EQ(plans.of[kDtProj].segments, 1) << shape.name;
    EXPECT_EQ(plans.of[kDtProj].segment_chunks, plans.of[kDtProj].chunks) << shape.name;
  }
}

// Two warps share a ring: two tiles of a segment, or two segments of a tile. All rows of a state's tile find
// warps.
TEST(StackPlanTest, WarpsFitABlock) {
  for (const Shape& shape : kShapes) {
    for (const int blocks : kBlocks) {
      const StackPlans plans = PlanStack(WeightsOf(shape), blocks);
      for (const ProductPlan& plan : plans.of) {
        EXPECT_TRUE(plan.tiles == 1 || plan.tiles % 2 == 0) << shape.name;
        EXPECT_LE(plan.tiles * plan.segments, kPlanWarps) << shape.name;
      }
      EXPECT_LE(plans.of[kDtProj].tiles * kMostStackRows, kPlanWarps) << shape.name;
    }
  }
}

// In units of a product; those of dt_proj are small.
TEST(StackPlanTest, TheBusiestBlockReadsNoMoreThanItMust) {
  for (const Shape& shape : kShapes) {
    for (const int blocks : kBlocks) {
      const StackPlans plans = PlanStack(WeightsOf(shape), blocks);
      int most = 0, units = 0;
      for (int block = 0; block < blocks; ++block) {
        int own = 0;
        for (const int product : {kInProj, kXProj, kOutProj})
          own += UnitsOf(plans.of[product], block, blocks);
        most = std::max(most, own);
        units += own;
      }
      EXPECT_EQ(most, (units + blocks - 1) / blocks) << shape.name << " on " << blocks;
    }
  }
}

}  // namespace
}  // namespace mambad::kernels
