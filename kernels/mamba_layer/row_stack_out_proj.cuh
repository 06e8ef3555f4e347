// The third part of row_stack.cuh: out_proj, the residual stream, and what the next norm needs.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_OUT_PROJ_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_OUT_PROJ_CUH_

#include <cstdint>

#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/row_stack_part.cuh"

namespace mambad::kernels {

// A warp multiplies both tiles by a segment. The first completes them, a row of W a lane, which keeps its
// residual from layer to layer.
class RowStackOutProj : RowStackPart {
 public:
  __device__ __forceinline__ RowStackOutProj(unsigned char* shared, Static& statics, int block)
      : RowStackPart(shared, statics, block),
        plan_(args_.plans.of[kOutProj]),
        chunks_(warp_ < plan_.segments ? Chunks(plan_, warp_) : 0) {}

  __device__ __forceinline__ void Run() {
    Load(0);
    Fetch(0);
    WaitForPreviousKernel();
    if (warp_ == 0) residual_ = __ldcg(args_.residual + OwnRow());
    ForEachLayer(args_.layers, [&] {
      TakeTiles(held_, chunks_);
      if (chunks_ > 0) {
        TakeInput(args_.y.At(place_) + FirstK(), chunks_);
        Multiply<Shape::kTiles>(held_, chunks_, 0, warp_);
      }
      hopper::NamedBarrier(1, Shape::kWarps * 32);
      if (warp_ == 0) Complete();
      if (Last()) return;
      Load(layer_ + 1);
      hopper::NamedBarrier(1, Shape::kWarps * 32);  // what is fetched would hold back what is handed over
      Pause(warp_ * kPause, chunks_);
      Fetch(layer_ + 1);
    });
    if (warp_ == 0) Keep();
  }

 private:
  static constexpr int kPause = 400;  // cycles

  __device__ __forceinline__ int FirstK() const { return warp_ * plan_.segment_chunks * kChunkK; }

  __device__ __forceinline__ void Load(int layer) {
    if (warp_ != 0) return;
    const StackLayer& w = LayerAt(layer);
    bias_ = w.out_bias != nullptr ? w.out_bias[OwnRow()] : -0.0f;
    norm_weight_ = w.next_norm_weight[OwnRow()];
  }

  // A layer's weights, and the next one's to L2.
  __device__ __forceinline__ void Fetch(int layer) const {
#pragma unroll
    for (int tile = 0; tile < Shape::kTiles; ++tile) {
      const std::int64_t at = WeightIndex(block_ * Shape::kRows + tile * 16, FirstK(), plan_.k_pad);
      HeldTile::Fetch(tiles_ + tile * HeldTile::kBytes, LayerAt(layer).products[kOutProj] + at, chunks_);
      HeldTile::Prefetch(LayerAt(layer + 1).products[kOutProj] + at, chunks_);
    }
  }

  // As AddToResidual and StoreNormInput, a value a lane.
  __device__ __forceinline__ void Complete() {
    const int m = OwnRow();
    residual_ = __fadd_rn(residual_, __fadd_rn(SumSegments<kMaxSegments>(), bias_));
    HandOver((Last() ? args_.u : args_.handed_u.At(next_)) + m, __fmul_rn(residual_, norm_weight_), true);
    float squares = __fmul_rn(residual_, residual_);
#pragma unroll
    for (int mask = 1; mask < kSquareSumWidth; mask *= 2)
      squares = __fadd_rn(squares, __shfl_xor_sync(~0u, squares, mask));
    const bool stores = m % kSquareSumWidth == 0;
    if (stores)
      (Last() ? args_.square_sums : args_.handed_square_sums.At(next_))[m / kSquareSumWidth] = squares;
    DelayAtRandom<DelayAt::kHandover, 2>();
    if (layer_ == 0) return;  // what in_proj of this layer read was not handed over
    Clear(args_.handed_u.At(turn_) + m);
    if (stores) args_.handed_square_sums.At(turn_)[m / kSquareSumWidth] = __uint_as_float(kAbsent);
  }

  __device__ __forceinline__ void Keep() const {
    const int slot = args_.slot_index[0];
    if (slot == kNoSlot) return;
    args_.residual[OwnRow()] = residual_;
    if (args_.last_hidden.base != nullptr) __stcs(SlotData(args_.last_hidden, slot) + OwnRow(), residual_);
  }

  const ProductPlan& plan_;
  const int chunks_;
  HeldTile held_ = {};
  float residual_ = 0.0f, bias_ = 0.0f, norm_weight_ = 0.0f;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_OUT_PROJ_CUH_
