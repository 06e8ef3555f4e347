// What becomes of the results of each matrix product of a step, four channels (m .. m+3) of a row (b) at a
// time, or eight. An output has
//   kScaled                    whether results are multiplied by the row's norm scale
//   kFolds                     whether x_proj is folded in (x_proj_fold.h): it then has `folded`, and Apply
//                              leaves bf16 results at `quad` too
//   kSquares                   whether it leaves sums of the results' squares, of kSquareGroupWidth channels
//                              where a whole tile is completed
//   norm                       where that scale comes from
//   Constants                  what Apply needs of the model
//   Operands                   what Apply needs of the row
//   Prefetch(m, b)             brings to L2 what LoadSlot will read of the slot
//   LoadConstants(m, constants)
//   LoadSlot(m, b, operands)   the part of the operands that no kernel of the same step writes before
//   LoadFresh(m, b, operands)  the rest
//   Apply(m, b, inside, writes, sum, scale, constants, operands)
//                              called by whole warps in lane order of quads, 4 lanes a 16-channel block and,
//                              above 8 rows, a warp 128 channels; `inside` is false past the last channel
//                              or row; without `writes` it leaves global memory alone (NarrowProduct's
//                              rehearsal)
// One that the whole product takes (kHasRows) also lets a thread stay with a row. Parts are halves of the
// channels where kParts is 2, with m counted within the part:
//   Row, RowAt(b, inside), Lives(row)      where row b lies; whether it is there and has a slot
//   PrefetchSlots(rows, first, step)       brings to L2 pieces first, first + step, ... of what LoadRow will
//                                          read of all rows' slots
//   LoadRow<part>(row, m, operands)
//   kConstants, Constant(i, part, m)       where constant i of four channels lies; null: zeros, or not used
//   ApplyRow<part>(row, m, sum, scale, constants, stride, operands)
//                                          constants lie `stride` floats apart; gives the sum of the four
//                                          results' squares if kSquares
//   StoreSquares(row, m, sum)              if kSquares: that of the kSquareGroupWidth channels from m on
// or, with kTakesEights, eight channels (m .. m+7) at a time, of bf16 that lanes have exchanged; a part's
// channels are a multiple of 8:
//   RowOperands, LoadRow<part>(row, m, operands)
//   ToBf16<part>(sum, scale, constants)    of two channels, before the exchange
//   ApplyEight<part>(row, m, eight, constants, stride, operands)
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_OUTPUTS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_OUTPUTS_CUH_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/x_proj_fold.cuh"
#include "kernels/math/conv.h"
#include "kernels/math/exp_approx.cuh"

namespace mambad::kernels {

// SlotView::At.
__device__ __forceinline__ float* SlotData(const SlotView& view, int slot) {
  return reinterpret_cast<float*>(view.base + slot * view.slot_stride_bytes + view.layer_offset_bytes);
}

__device__ __forceinline__ float4 Scaled(float4 sum, float scale) {
  return {__fmul_rn(sum.x, scale), __fmul_rn(sum.y, scale), __fmul_rn(sum.z, scale), __fmul_rn(sum.w, scale)};
}

__device__ __forceinline__ float4 SiluEach(float4 v) {
  return {SiluApprox(v.x), SiluApprox(v.y), SiluApprox(v.z), SiluApprox(v.w)};
}

inline constexpr int kMaxStepConvWidth = 4;

// in_proj: the first half goes through the causal convolution and SiLU, the second through SiLU (the gate).
template <bool kFoldsXProj>
struct ConvAndGate {
  static constexpr bool kScaled = true;
  static constexpr bool kFolds = kFoldsXProj;
  static constexpr bool kHasRows = true;
  static constexpr bool kTakesEights = true;
  static constexpr bool kSquares = false;
  static constexpr int kParts = 2;
  NormedRows norm;
  const float* bias;         // (2 D), or null
  const float* conv_weight;  // (K, D)
  const float* conv_bias;    // (D), or null
  SlotView window;           // (K-1, D) bf16 per slot
  const std::int32_t* slot_index;
  std::uint16_t* x;     // (rows, D)
  std::uint16_t* gate;  // (rows, D)
  int channels;         // D
  int conv_width;       // K <= 4
  StepLayout layout;    // of x and gate
  FoldedXProj folded;   // if kFolds

  // Taps end where those of the widest convolution do: the token's own is the last, so that no index depends
  // on K (which would put them in local memory).
  struct Constants {
    float4 conv_bias;
    float4 weight[kMaxStepConvWidth];
  };
  struct Operands {
    int slot;
    uint2 window[kMaxStepConvWidth - 1];
  };
  struct RowOperands {
    uint4 window[kMaxStepConvWidth - 1];
  };
  struct Row {
    std::uint16_t* window;  // null without a slot
    std::int64_t at;        // of the row's first channel in x and gate
  };

  __device__ __forceinline__ void LoadConstants(int m, Constants& constants) const {
    if (m >= channels) return;
    constants.conv_bias = conv_bias != nullptr ? Load4(conv_bias + m) : float4{};
#pragma unroll
    for (int i = 0; i < kMaxStepConvWidth; ++i) {
      if (TapOf(i) >= 0) constants.weight[i] = Load4(conv_weight + TapOf(i) * channels + m);
    }
  }
  __device__ __forceinline__ void Prefetch(int m, int b) const {
    const int slot = slot_index[b];
    if (m >= channels || slot == kNoSlot) return;
    for (int k = 0; k < conv_width - 1; ++k) PrefetchLine(window.Bf16At(slot) + m + k * channels);
  }
  __device__ __forceinline__ void LoadSlot(int m, int b, Operands& operands) const {
    operands.slot = slot_index[b];
    if (m >= channels || operands.slot == kNoSlot) return;
    const std::uint16_t* const from = window.Bf16At(operands.slot) + m;
#pragma unroll
    for (int i = 0; i < kMaxStepConvWidth - 1; ++i) {
      if (TapOf(i) >= 0)
        operands.window[i] = __ldcs(reinterpret_cast<const uint2*>(from + TapOf(i) * channels));
    }
  }
  __device__ __forceinline__ void LoadFresh(int, int, Operands&) const {}

  __device__ __forceinline__ void Apply(int m, int b, bool inside, bool writes, float4 sum, float scale,
                                        const Constants& constants, const Operands& operands,
                                        uint2* quad = nullptr) const {
    if (!inside || operands.slot == kNoSlot) return;
    sum = Scaled(sum, scale);
    if (bias != nullptr) sum = AddEach(sum, Load4(bias + m));
    if (m >= channels) {
      StoreGate(layout.Index(b, m - channels), writes, sum);
    } else {
      const uint2 input = Bf16Bits(sum);
      const uint2 bits = Bf16Bits(Convolve(input, constants, operands.window));
      if constexpr (kFolds) *quad = bits;
      if (!writes) return;
      Shift(window.Bf16At(operands.slot) + m, operands.window, input);
      *reinterpret_cast<uint2*>(x + layout.Index(b, m)) = bits;
    }
  }

  // Part 0 is the convolution, part 1 the gate.
  __device__ __forceinline__ Row RowAt(int b, bool inside) const {
    const int slot = inside ? slot_index[b] : kNoSlot;
    return {slot == kNoSlot ? nullptr : window.Bf16At(slot), layout.Index(b, 0)};
  }
  static __device__ __forceinline__ bool Lives(const Row& row) { return row.window != nullptr; }
  __device__ __forceinline__ void PrefetchSlots(int rows, int first, int step) const {
    constexpr int kPiece = 1024;  // elements
    const int elements = (conv_width - 1) * channels, pieces = (elements + kPiece - 1) / kPiece;
    for (int i = first; i < rows * pieces; i += step) {
      const int slot = slot_index[i / pieces], at = i % pieces * kPiece;
      if (slot != kNoSlot) BulkPrefetch(window.Bf16At(slot) + at, min(kPiece, elements - at) * 2);
    }
  }
  // Other loads take the rest of a line later, which must not leave the L2 before.
  template <int kPart>
  __device__ __forceinline__ void LoadRow(const Row& row, int m, RowOperands& operands) const {
    if constexpr (kPart == 0) {
#pragma unroll
      for (int i = 0; i < kMaxStepConvWidth - 1; ++i) {
        if (TapOf(i) >= 0)
          operands.window[i] = __ldcg(reinterpret_cast<const uint4*>(row.window + m + TapOf(i) * channels));
      }
    }
  }
  static constexpr int kConstants = 2 + kMaxStepConvWidth;
  __device__ __forceinline__ const float* Constant(int i, int part, int m) const {
    if (i == 0) return bias != nullptr ? bias + part * channels + m : nullptr;
    if (part != 0) return nullptr;
    if (i == 1) return conv_bias != nullptr ? conv_bias + m : nullptr;
    return TapOf(i - 2) >= 0 ? conv_weight + TapOf(i - 2) * channels + m : nullptr;
  }
  template <int kPart>
  __device__ __forceinline__ std::uint32_t ToBf16(float2 sum, float scale, const float* given) const {
    sum = {__fmul_rn(sum.x, scale), __fmul_rn(sum.y, scale)};
    if (bias != nullptr) {
      const float2 add = *reinterpret_cast<const float2*>(given);
      sum = {__fadd_rn(sum.x, add.x), __fadd_rn(sum.y, add.y)};
    }
    if constexpr (kPart != 0) sum = {SiluApprox(sum.x), SiluApprox(sum.y)};
    return Bf16Bits(sum);
  }
  template <int kPart>
  __device__ __forceinline__ void ApplyEight(const Row& row, int m, uint4 eight, const float* given,
                                             int stride, const RowOperands& operands) const {
    const std::int64_t at = row.at + layout.Index(0, m);
    if constexpr (kPart == 0) {
      uint2 result[2];
#pragma unroll
      for (int half = 0; half < 2; ++half) {
        Constants constants;
        constants.conv_bias = Load4(given + stride + half * kQuad);
        uint2 taps[kMaxStepConvWidth - 1];
#pragma unroll
        for (int i = 0; i < kMaxStepConvWidth; ++i) {
          constants.weight[i] = Load4(given + (2 + i) * stride + half * kQuad);
          if (i + 1 < kMaxStepConvWidth) taps[i] = HalfOf(operands.window[i], half);
        }
        result[half] = Bf16Bits(Convolve(HalfOf(eight, half), constants, taps));
      }
      Shift(row.window + m, operands.window, eight);
      *reinterpret_cast<uint4*>(x + at) = {result[0].x, result[0].y, result[1].x, result[1].y};
    } else {
      *reinterpret_cast<uint4*>(gate + at) = eight;
    }
  }

 private:
  // Which of the K taps is the i-th of the widest convolution; none: negative.
  __device__ __forceinline__ int TapOf(int i) const { return i - (kMaxStepConvWidth - conv_width); }

  static __device__ __forceinline__ uint2 HalfOf(uint4 eight, int half) {
    return half == 0 ? uint2{eight.x, eight.y} : uint2{eight.z, eight.w};
  }
  __device__ __forceinline__ void StoreGate(std::int64_t at, bool writes, float4 input) const {
    const float4 value = SiluEach(input);
    if (writes) StoreBf16(gate + at, value);
  }

  // x from the inputs of four channels, bf16: the window's and the token's.
  __device__ __forceinline__ float4 Convolve(uint2 input, const Constants& constants,
                                             const uint2 (&taps)[kMaxStepConvWidth - 1]) const {
    float4 sum = constants.conv_bias;
#pragma unroll
    for (int i = 0; i < kMaxStepConvWidth - 1; ++i) {
      if (TapOf(i) >= 0) sum = Tap(sum, WidenBf16(taps[i]), constants.weight[i]);
    }
    return SiluEach(Tap(sum, WidenBf16(input), constants.weight[kMaxStepConvWidth - 1]));
  }
  // `to`: the window of these channels, from which its oldest input leaves.
  template <class Channels>
  __device__ __forceinline__ void Shift(std::uint16_t* to, const Channels (&taps)[kMaxStepConvWidth - 1],
                                        Channels input) const {
#pragma unroll
    for (int i = 1; i < kMaxStepConvWidth - 1; ++i) {
      if (TapOf(i) > 0) __stcs(reinterpret_cast<Channels*>(to + (TapOf(i) - 1) * channels), taps[i]);
    }
    if (conv_width > 1) __stcs(reinterpret_cast<Channels*>(to + (conv_width - 2) * channels), input);
  }

  static __device__ __forceinline__ float4 Tap(float4 sum, const float4& input, const float4& weight) {
#pragma unroll
    for (int i = 0; i < kQuad; ++i)
      At(sum, i) = ConvTap(F32x1{At(sum, i)}, F32x1{At(input, i)}, F32x1{At(weight, i)}).v;
    return sum;
  }
};

// x_proj, and the head: fp32 rows.
template <bool kIsScaled>
struct PlainRows {
  static constexpr bool kScaled = kIsScaled;
  static constexpr bool kFolds = false;
  static constexpr bool kHasRows = kIsScaled;  // the head
  static constexpr bool kTakesEights = false;
  static constexpr bool kSquares = false;
  static constexpr int kParts = 1;
  NormedRows norm;
  float* y;
  std::int64_t stride;  // floats between rows
  int width;

  struct Constants {};
  struct Operands {};
  __device__ __forceinline__ void LoadConstants(int, Constants&) const {}
  __device__ __forceinline__ void Prefetch(int, int) const {}
  __device__ __forceinline__ void LoadSlot(int, int, Operands&) const {}
  __device__ __forceinline__ void LoadFresh(int, int, Operands&) const {}

  __device__ __forceinline__ void Apply(int m, int b, bool inside, bool writes, float4 sum, float scale,
                                        const Constants&, const Operands&) const {
    if (inside) Store(y + b * stride + m, m, writes, sum, scale);
  }

  using Row = float*;
  __device__ __forceinline__ Row RowAt(int b, bool inside) const { return inside ? y + b * stride : nullptr; }
  static __device__ __forceinline__ bool Lives(Row row) { return row != nullptr; }
  __device__ __forceinline__ void PrefetchSlots(int, int, int) const {}
  template <int>
  __device__ __forceinline__ void LoadRow(Row, int, Operands&) const {}
  static constexpr int kConstants = 0;
  __device__ __forceinline__ const float* Constant(int, int, int) const { return nullptr; }
  template <int>
  __device__ __forceinline__ float ApplyRow(Row row, int m, float4 sum, float scale, const float*, int,
                                            const Operands&) const {
    Store(row + m, m, true, sum, scale);
    return 0.0f;
  }

 private:
  __device__ __forceinline__ void Store(float* to, int m, bool writes, float4 sum, float scale) const {
    if (kScaled) sum = Scaled(sum, scale);
    if (stride % kQuad == 0 && m + kQuad <= width) {
      if (writes) *reinterpret_cast<float4*>(to) = sum;
      return;
    }
#pragma unroll
    for (int i = 0; i < kQuad; ++i) {
      if (m + i < width && writes) to[i] = At(sum, i);
    }
  }
};

// out_proj: added to the residual stream; leaves what the next norm needs.
struct AddToResidual {
  static constexpr bool kScaled = false;
  static constexpr bool kFolds = false;
  static constexpr bool kHasRows = true;
  static constexpr bool kTakesEights = false;
  static constexpr bool kSquares = true;
  static constexpr int kParts = 1;
  NormedRows norm;    // unused
  const float* bias;  // (M), or null
  const std::int32_t* slot_index;
  float* residual;  // (rows, M)
  NormInput next;
  SlotView kept;  // (M) per slot: the last layer leaves the row there too; base null: another layer

  struct Constants {
    float4 bias;
    float4 norm_weight;
  };
  struct Operands {
    int slot;
    float4 residual;
  };
  __device__ __forceinline__ void LoadConstants(int m, Constants& constants) const {
    constants.bias = bias != nullptr ? Load4(bias + m) : float4{};
    constants.norm_weight = Load4(next.weight + m);
  }
  __device__ __forceinline__ void Prefetch(int, int) const {}
  __device__ __forceinline__ void LoadSlot(int, int b, Operands& operands) const {
    operands.slot = slot_index[b];
  }
  __device__ __forceinline__ void LoadFresh(int m, int b, Operands& operands) const {
    operands.residual = LoadFresh4(residual + static_cast<std::int64_t>(b) * next.width + m);
  }
  __device__ __forceinline__ void Apply(int m, int b, bool inside, bool writes, float4 sum, float,
                                        const Constants& constants, const Operands& operands) const {
    const bool store = inside && operands.slot != kNoSlot;
    float4 value = {};
    if (store) {
      if (bias != nullptr) sum = AddEach(sum, constants.bias);
      value = AddEach(operands.residual, sum);
      if (writes)
        *reinterpret_cast<float4*>(residual + static_cast<std::int64_t>(b) * next.width + m) = value;
      if (writes && kept.base != nullptr)
        __stcs(reinterpret_cast<float4*>(SlotData(kept, operands.slot) + m), value);
    }
    StoreNormInput(next, m, b, value, constants.norm_weight, store && writes);
  }

  struct Row {
    float* residual;  // null without a slot
    float* kept;      // or null
    std::uint16_t* u;
    float* square_sums;
  };
  __device__ __forceinline__ Row RowAt(int b, bool inside) const {
    const int slot = inside ? slot_index[b] : kNoSlot;
    if (slot == kNoSlot) return {};
    return {residual + static_cast<std::int64_t>(b) * next.width,
            kept.base != nullptr ? SlotData(kept, slot) : nullptr, next.u + next.layout.Index(b, 0),
            next.square_sums + static_cast<std::int64_t>(b) * SquareSums(next.width, kSquareGroupWidth)};
  }
  static __device__ __forceinline__ bool Lives(const Row& row) { return row.residual != nullptr; }
  __device__ __forceinline__ void PrefetchSlots(int, int, int) const {}
  template <int>
  __device__ __forceinline__ void LoadRow(const Row& row, int m, Operands& operands) const {
    operands.residual = LoadFresh4(row.residual + m);
  }
  static constexpr int kConstants = 2;
  __device__ __forceinline__ const float* Constant(int i, int, int m) const {
    if (i == 0) return bias != nullptr ? bias + m : nullptr;
    return next.weight + m;
  }
  template <int>
  __device__ __forceinline__ float ApplyRow(const Row& row, int m, float4 sum, float, const float* given,
                                            int stride, const Operands& operands) const {
    if (bias != nullptr) sum = AddEach(sum, Load4(given));
    const float4 value = AddEach(operands.residual, sum);
    *reinterpret_cast<float4*>(row.residual + m) = value;
    if (row.kept != nullptr) __stcs(reinterpret_cast<float4*>(row.kept + m), value);
    StoreBf16(row.u + next.layout.Index(0, m), MultiplyEach(value, Load4(given + stride)));
    return SumOfQuad(MultiplyEach(value, value));
  }
  static __device__ __forceinline__ void StoreSquares(const Row& row, int m, float sum) {
    row.square_sums[m / kSquareGroupWidth] = sum;
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_OUTPUTS_CUH_
