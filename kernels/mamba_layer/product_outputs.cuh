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
// One that the whole product takes (kIsWhole; a Completion is what it does there) also has parts,
// halves of the channels where kParts is 2, with m counted within the part, and
//   PrefetchSlots(rows, first, step)       brings to L2 pieces first, first + step, ... of what it will read
//                                          of all rows' slots
//   InputsOf(part)                         how many values a channel it needs of the model in shared memory
//   Input(i, part, m)                      the i-th of four channels
//   QuadPlace(i, quad, quads)              where that lies, of `quads` of a half of a tile's channels
//   ExchangeRowBytes(channels)             of shared memory, that a row of a tile takes on its way out
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
// fp32 rows leave the whole product by so many channels at a time; with 32 bytes more no bank is met twice.
inline constexpr int kExchangedChannels = 32, kExchangedRowBytes = kExchangedChannels * 4 + 32;

// in_proj: the first half goes through the causal convolution and SiLU, the second through SiLU (the gate).
template <bool kFoldsXProj>
struct ConvAndGate {
  static constexpr bool kScaled = true;
  static constexpr bool kFolds = kFoldsXProj;
  static constexpr bool kIsWhole = true;
  static constexpr bool kSquares = false;
  static constexpr int kParts = 2;  // the convolution, the gate
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

  __device__ __forceinline__ void PrefetchSlots(int rows, int first, int step) const {
    constexpr int kPiece = 1024;  // elements
    const int elements = (conv_width - 1) * channels, pieces = (elements + kPiece - 1) / kPiece;
    for (int i = first; i < rows * pieces; i += step) {
      const int slot = slot_index[i / pieces], at = i % pieces * kPiece;
      if (slot != kNoSlot) BulkPrefetch(window.Bf16At(slot) + at, min(kPiece, elements - at) * 2);
    }
  }
  // bf16, an odd number of 16 bytes apart: no bank is met twice by eights of a row, nor by rows.
  // Behind an odd number of eights there is room for one more, since two are written at a time.
  static __host__ __device__ constexpr int ExchangeRowBytes(int channels) {
    return (channels / 8 | 1) * 16 + (channels / 8 % 2) * 32;
  }
  static __host__ __device__ constexpr int InputsOf(int part) {
    return part == 0 ? 2 + kMaxStepConvWidth : 1;
  }
  // Taps that K has not are all zeros with weights of -0, which change no sum, not even -0.
  __device__ __forceinline__ float4 Input(int i, int part, int m) const {
    if (i == 0) return bias != nullptr ? Load4(bias + part * channels + m) : float4{};
    if (i == 1) return conv_bias != nullptr ? Load4(conv_bias + m) : float4{};
    const int tap = TapOf(i - 2);
    return tap >= 0 ? Load4(conv_weight + tap * channels + m) : float4{-0.0f, -0.0f, -0.0f, -0.0f};
  }
  // Those of ConvolveEight: first the first quads of all eights, so that no bank is met twice.
  static __device__ __forceinline__ int QuadPlace(int i, int quad, int quads) {
    return i == 0 ? quad : quad % 2 * (quads / 2) + quad / 2;
  }
  // x of eight channels, from their window, with zeros where K has no tap. `given`: where the first quad of
  // Input(1) lies, with kStride floats from input to input.
  template <int kStride>
  __device__ __forceinline__ uint4 ConvolveEight(uint4 input, const uint4 (&taps)[kMaxStepConvWidth - 1],
                                                 const float* given) const {
    uint2 result[2];
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      float4 sum = Load4(given + half * (kStride / 2));
#pragma unroll
      for (int i = 0; i < kMaxStepConvWidth; ++i) {
        const uint4 eight = i + 1 < kMaxStepConvWidth ? taps[i] : input;
        sum = Tap(sum, WidenBf16(half == 0 ? uint2{eight.x, eight.y} : uint2{eight.z, eight.w}),
                  Load4(given + (1 + i) * kStride + half * (kStride / 2)));
      }
      result[half] = Bf16Bits(SiluEach(sum));
    }
    return {result[0].x, result[0].y, result[1].x, result[1].y};
  }
  // Which of the K taps is the i-th of the widest convolution; none: negative.
  __device__ __forceinline__ int TapOf(int i) const { return i - (kMaxStepConvWidth - conv_width); }

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

 private:
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
  static constexpr bool kIsWhole = kIsScaled;  // the head
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
    if (inside) Store(y + b * stride + m, m, writes, kScaled ? Scaled(sum, scale) : sum);
  }

  __device__ __forceinline__ void PrefetchSlots(int, int, int) const {}
  static __host__ __device__ constexpr int InputsOf(int) { return 0; }
  __device__ __forceinline__ float4 Input(int, int, int) const { return {}; }
  static __device__ __forceinline__ int QuadPlace(int, int quad, int) { return quad; }
  static __host__ __device__ constexpr int ExchangeRowBytes(int) { return kExchangedRowBytes; }

  // Of four channels from m on those that exist.
  __device__ __forceinline__ void Store(float* to, int m, bool writes, float4 sum) const {
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
  static constexpr bool kIsWhole = true;
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

  __device__ __forceinline__ void PrefetchSlots(int, int, int) const {}
  static __host__ __device__ constexpr int InputsOf(int) { return 2; }
  __device__ __forceinline__ float4 Input(int i, int, int m) const {
    if (i != 0) return Load4(next.weight + m);
    return bias != nullptr ? Load4(bias + m) : float4{};
  }
  static __device__ __forceinline__ int QuadPlace(int, int quad, int) { return quad; }
  static __host__ __device__ constexpr int ExchangeRowBytes(int) { return kExchangedRowBytes; }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_OUTPUTS_CUH_
