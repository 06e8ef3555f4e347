// The first part of row_stack.cuh: in_proj, norm scale, convolution, SiLU, gate, and the folded x_proj.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_IN_PROJ_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_IN_PROJ_CUH_

#include <cstdint>

#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/row_stack_part.cuh"
#include "kernels/mamba_layer/state_row.cuh"

namespace mambad::kernels {

// A warp multiplies a tile by a segment; one more finds the norm's scale. Those that complete have a lane for
// each row of W: the first hands over x or gate, and each multiplies its 16 rows of x_proj by that x.
class RowStackInProj : RowStackPart {
 public:
  __device__ __forceinline__ RowStackInProj(unsigned char* shared, Static& statics, int block)
      : RowStackPart(shared, statics, block),
        plan_(args_.plans.of[kInProj]),
        tile_(warp_ / plan_.segments),
        segment_(warp_ % plan_.segments),
        chunks_(tile_ < Shape::kTiles ? Chunks(plan_, segment_) : 0),
        is_x_(block_ < args_.channels / kFoldChannels),
        completes_(warp_ < (is_x_ ? (args_.rank + 2 * kStackStateSize + 15) / 16 : 1)) {}

  __device__ __forceinline__ void Run() {
    Load(0);
    Fetch(0);
    WaitForPreviousKernel();
    ForEachLayer(args_.layers, [&] {
      TakeTiles(held_, chunks_);
      if (warp_ == Shape::kWarps) {
        FindScale();
      } else if (chunks_ > 0) {
        TakeInput((layer_ == 0 ? args_.u : args_.handed_u.At(turn_)) + FirstK(), chunks_);
        Multiply<1>(held_, chunks_, tile_, segment_);
      }
      hopper::NamedBarrier(1, Shape::kThreads);
      if (completes_) Complete();
      if (Last()) return;
      Load(layer_ + 1);
      hopper::NamedBarrier(1, Shape::kThreads);  // what is fetched would hold back what is handed over
      Pause(warp_ * kPause, chunks_);
      Fetch(layer_ + 1);
    });
  }

 private:
  static constexpr int kPause = 500;  // cycles; with 700 weights come too late
  static constexpr int kTaps = kMaxStepConvWidth - 1;

  __device__ __forceinline__ int FirstK() const { return segment_ * plan_.segment_chunks * kChunkK; }
  __device__ __forceinline__ int FirstTap() const { return kTaps + 1 - args_.conv_width; }

  // What completing needs of the model and the slot.
  __device__ __forceinline__ void Load(int layer) {
    if (!completes_) return;
    const StackLayer& w = LayerAt(layer);
    const int m = OwnRow();
    in_bias_ = w.in_bias != nullptr ? w.in_bias[m] : -0.0f;
    if (!is_x_) return;
    conv_bias_ = w.conv_bias != nullptr ? w.conv_bias[m] : 0.0f;
    SlotView view = args_.window;
    view.layer_offset_bytes = w.window_offset_bytes;
    const int slot = args_.slot_index[0], first = FirstTap();
    window_at_ = slot != kNoSlot ? view.Bf16At(slot) + m : nullptr;
#pragma unroll
    for (int i = 0; i <= kTaps; ++i)
      conv_weight_[i] = i >= first ? w.conv_weight[(i - first) * args_.channels + m] : -0.0f;
#pragma unroll
    for (int i = 0; i < kTaps; ++i)
      window_[i] = i >= first && slot != kNoSlot ? __ldcs(window_at_ + (i - first) * args_.channels) : 0;
    FoldedXProj{.weights = w.products[kXProj], .k_pad = args_.plans.of[kXProj].k_pad, .sums = {}}.Load(
        block_, warp_ * 16, x_proj_);
  }

  // A layer's weights, and the next one's to L2.
  __device__ __forceinline__ void Fetch(int layer) const {
    const std::int64_t at = WeightIndex(block_ * Shape::kRows + tile_ * 16, FirstK(), plan_.k_pad);
    HeldTile::Fetch(tiles_, LayerAt(layer).products[kInProj] + at, chunks_);
    HeldTile::Prefetch(LayerAt(layer + 1).products[kInProj] + at, chunks_);
  }

  // RowScale, whose loop and first word would take a way to L2 more each.
  __device__ __forceinline__ void FindScale() {
    const NormedRows norm = {
        .square_sums = layer_ == 0 ? args_.square_sums : args_.handed_square_sums.At(turn_),
        .width = args_.d_model,
        .eps = args_.norm_eps};
    constexpr int kMostWidth = Shape::kWarps / Shape::kTiles * Shape::kHeldChunks * kChunkK;
    static_assert(kMostWidth <= 8 * kSquareGroupWidth);  // a lane of eight has one group
    const int group = lane_ % 8, quads = SquareSums(norm.width, kSquareSumWidth) / kQuad;
    uint4 v[2] = {};
    Await(
        v, [&](int i) { return norm.square_sums + (group * 2 + i) * kQuad; },
        [&](int i) { return group * 2 + i < quads; });
    const float scale = ScaleOfParts(norm, __fadd_rn(SumOfQuad(FloatsOf(v[0])), SumOfQuad(FloatsOf(v[1]))));
    if (lane_ == 0) statics_.scale[layer_ % 2] = scale;
  }

  __device__ __forceinline__ void Complete() {
    const int m = OwnRow(), sums_at = block_ * kFoldStride + warp_ * 16 + lane_ / 4;
    const bool writes = warp_ == 0;
    const auto handed = [&](int place) {
      return is_x_ ? args_.x.At(place) + m : args_.gate.At(place) + (m - args_.channels);
    };
    float value = __fadd_rn(
        __fmul_rn(SumSegments<Shape::kWarps / Shape::kTiles>(), statics_.scale[layer_ % 2]), in_bias_);
    std::uint16_t input = 0;
    if (is_x_) {
      input = __bfloat16_as_ushort(__float2bfloat16_rn(value));
      value = Convolve(input);
    }
    const std::uint32_t word = HandOver(handed(place_), SiluApprox(value), writes);
    if (is_x_) MultiplyFolded(word, args_.folded.At(place_) + sums_at);
    DelayAtRandom<DelayAt::kHandover, 2>();
    if (is_x_ && lane_ % 4 == 0) {
      float* const old = args_.folded.At(before_) + sums_at;
      old[0] = old[8] = __uint_as_float(kAbsent);
    }
    if (!writes) return;
    Clear(handed(before_));
    if (is_x_) ShiftWindow(input);
  }

  static __device__ __forceinline__ float Tap(float sum, std::uint16_t input, float weight) {
    return ConvTap(F32x1{sum}, F32x1{WidenedBf16(input)}, F32x1{weight}).v;
  }
  __device__ __forceinline__ float Convolve(std::uint16_t input) const {
    float sum = conv_bias_;
#pragma unroll
    for (int i = 0; i < kTaps; ++i) sum = Tap(sum, window_[i], conv_weight_[i]);
    return Tap(sum, input, conv_weight_[kTaps]);
  }
  __device__ __forceinline__ void ShiftWindow(std::uint16_t input) const {
    if (window_at_ == nullptr) return;
#pragma unroll
    for (int i = 1; i < kTaps; ++i) {
      if (i > FirstTap()) __stcs(window_at_ + (i - FirstTap() - 1) * args_.channels, window_[i]);
    }
    if (args_.conv_width > 1) __stcs(window_at_ + (args_.conv_width - 2) * args_.channels, input);
  }

  // `word`: two channels of x, in every other lane.
  __device__ __forceinline__ void MultiplyFolded(std::uint32_t word, float* to) const {
    float sum[4] = {};
#pragma unroll
    for (int i = 0; i < kFoldTiles; ++i) {
      const int lane = i * 16 + lane_ % 4 * kQuad;
      const std::uint32_t low = __shfl_sync(~0u, word, lane), high = __shfl_sync(~0u, word, lane + 2);
      hopper::Mma(sum, x_proj_.a[i], low, high);
    }
    if (lane_ % 4 != 0) return;
    to[0] = sum[0];
    to[8] = sum[2];
  }

  const ProductPlan& plan_;
  const int tile_, segment_, chunks_;
  const bool is_x_, completes_;
  HeldTile held_ = {};
  // Of this lane's row of W, if it completes. Taps end where those of the widest convolution do; what K has
  // not is a zero with a weight of -0, which changes no sum.
  FoldedXProj::Weights x_proj_ = {};
  float in_bias_ = 0.0f, conv_bias_ = 0.0f, conv_weight_[kTaps + 1] = {};
  std::uint16_t window_[kTaps] = {};
  std::uint16_t* window_at_ = nullptr;  // null without a slot
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_IN_PROJ_CUH_
