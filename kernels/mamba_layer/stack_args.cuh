// What the kernels of stack_step.cuh and row_stack.cuh are given: the layers, how the products are cut
// (stack_plan.h), and where blocks hand each other what they find.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STACK_ARGS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STACK_ARGS_CUH_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/narrow_product.cuh"
#include "kernels/mamba_layer/packed_weight.h"
#include "kernels/mamba_layer/stack_plan.h"
#include "kernels/mamba_layer/step_buffers.h"

namespace mambad::kernels {

inline constexpr int kMostStackLayers = 64;
inline constexpr int kMostDtBcWidth = 288;  // R + 2 N
inline constexpr int kStackStateSize = 16;  // N

static_assert(NarrowShape::kMaxWarps == kPlanWarps && NarrowShape::kRows == kPlanTileRows);

// A warp's part of a block's units: a tile of 16 rows and a segment.
struct WarpPart {
  std::int32_t first_unit;  // of the block; then every blocks'
  std::int32_t tile, segment;
  std::int32_t steps;  // chunks of its segment
  std::int32_t turns;  // the most of its pair of warps
  // Of the state step, where warps take the tiles' rows: its tile and its row.
  std::int32_t state_tile, state_row;

  static __device__ __forceinline__ WarpPart Of(const ProductPlan& plan, int warp) {
    const int block = static_cast<int>(blockIdx.x), blocks = static_cast<int>(gridDim.x);
    const auto steps = [&](int of) {
      const int chunk = of / plan.tiles * plan.segment_chunks;
      return max(min(plan.segment_chunks, plan.chunks - chunk), 0);
    };
    return {.first_unit = block - plan.first_block + (block < plan.first_block ? blocks : 0),
            .tile = warp % plan.tiles,
            .segment = warp / plan.tiles,
            .steps = steps(warp),
            .turns = max(steps(warp), steps(warp ^ 1)),
            .state_tile = warp % plan.tiles,
            .state_row = warp / plan.tiles};
  }
};

struct StackLayer {
  const std::uint16_t* products[kStackProducts];  // packed
  const float* in_bias;
  const float* conv_weight;
  const float* conv_bias;
  const float* dt_bias;
  const float* decay_log2;
  const float* skip;
  const float* out_bias;
  const float* next_norm_weight;
  std::int64_t window_offset_bytes;
  std::int64_t state_offset_bytes;
};

// Places that layers take in turns.
template <class T>
struct Places {
  T* first;
  std::int32_t stride;

  __device__ __forceinline__ T* At(int i) const { return first + i * stride; }
};

struct StackArgs {
  StackPlans plans;
  std::int32_t layers;
  std::int32_t rows;
  std::int32_t d_model;
  std::int32_t channels;
  std::int32_t rank;
  std::int32_t conv_width;
  std::int32_t x_bytes;  // of shared memory: a warp's part of a product's input
  float norm_eps;
  float dt_bc_eps;
  const std::int32_t* slot_index;
  SlotView window, state;  // but for the layer's offset
  SlotView last_hidden;
  float* residual;
  std::uint16_t* u;    // what the first layer reads and the last one leaves
  float* square_sums;  // likewise
  // Handed from block to block (handover.cuh). Layers take the places in turns; the last one has a place of
  // its own, which the first layer of the next step clears.
  Places<std::uint16_t> handed_u;
  Places<float> handed_square_sums;
  Places<std::uint16_t> x, gate, y;  // (rows, D)
  Places<float> dt_bc;               // (rows, R + 2 N)
  Places<float> folded;              // (FoldFloats): one row's, in place of dt_bc (row_stack.cuh)
  StackLayer layer[kMostStackLayers];
};

// A layer and the places that it hands over in.
class LayersInTurn {
 protected:
  template <class Layer>
  __device__ __forceinline__ void ForEachLayer(int layers, const Layer& enter) {
#pragma unroll 1
    for (layer_ = 0; layer_ < layers; ++layer_) {
      before_ = layer_ == 0 ? kHandedPlaces : place_;
      turn_ = next_;
      next_ = turn_ + 1 == kHandedPlaces ? 0 : turn_ + 1;
      place_ = layer_ + 1 == layers ? kHandedPlaces : turn_;
      enter();
    }
  }

  int layer_ = 0;
  int turn_ = 0, next_ = 0;     // places of u: this layer's and the next one's
  int place_ = 0, before_ = 0;  // of all else: this layer's and that of the layer before
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STACK_ARGS_CUH_
