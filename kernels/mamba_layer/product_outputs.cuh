// What becomes of the results of each matrix product of a step, four channels (m .. m+3) of a row (b) at a
// time. An output has
//   kScaled                    whether results are multiplied by the row's norm scale
//   kFolds                     whether x_proj is folded in (x_proj_fold.h): it then has `folded`, and Apply
//                              leaves bf16 results at `quad` too
//   norm                       where that scale comes from
//   Constants                  what Apply needs of the model
//   Operands                   what Apply needs of the row
//   Prefetch(m, b)             brings to L2 what LoadSlot will read of the slot
//   LoadConstants(m, constants)
//   LoadSlot(m, b, operands)   the part of the operands that no kernel of the same step writes before
//   LoadFresh(m, b, operands)  the rest
//   Apply(m, b, inside, writes, sum, scale, constants, operands)
//                              called by whole warps in lane order of quads, 4 lanes a 16-channel block;
//                              `inside` is false past the last channel or row; without `writes` it leaves
//                              global memory alone (NarrowProduct's rehearsal)
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
  NormedRows norm;
  const float* bias;         // (2 D), or null
  const float* conv_weight;  // (K, D)
  const float* conv_bias;    // (D), or null
  SlotView window;           // (K-1, D) per slot
  const std::int32_t* slot_index;
  std::uint16_t* x;     // (rows, D)
  std::uint16_t* gate;  // (rows, D)
  int channels;         // D
  int conv_width;       // K <= 4
  StepLayout layout;    // of x and gate
  FoldedXProj folded;   // if kFolds

  struct Constants {
    float4 conv_bias;
    float4 weight[kMaxStepConvWidth];
  };
  struct Operands {
    int slot;
    float4 window[kMaxStepConvWidth - 1];
  };

  __device__ __forceinline__ void LoadConstants(int m, Constants& constants) const {
    if (m >= channels) return;
    constants.conv_bias = conv_bias != nullptr ? Load4(conv_bias + m) : float4{};
#pragma unroll
    for (int k = 0; k < kMaxStepConvWidth; ++k) {
      if (k < conv_width) constants.weight[k] = Load4(conv_weight + k * channels + m);
    }
  }
  __device__ __forceinline__ void Prefetch(int m, int b) const {
    const int slot = slot_index[b];
    if (m >= channels || slot == kNoSlot) return;
    for (int k = 0; k < conv_width - 1; ++k) hopper::PrefetchL2(SlotData(window, slot) + m + k * channels);
  }
  __device__ __forceinline__ void LoadSlot(int m, int b, Operands& operands) const {
    operands.slot = slot_index[b];
    if (m >= channels || operands.slot == kNoSlot) return;
    const float* from = SlotData(window, operands.slot) + m;
#pragma unroll
    for (int k = 0; k < kMaxStepConvWidth - 1; ++k) {
      if (k < conv_width - 1)
        operands.window[k] = __ldcs(reinterpret_cast<const float4*>(from + k * channels));
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
      const uint2 bits = Bf16Bits(SiluEach(sum));
      if (writes) *reinterpret_cast<uint2*>(gate + layout.Index(b, m - channels)) = bits;
    } else {
      const uint2 bits = Bf16Bits(Convolve(m, writes, sum, constants, operands));
      if constexpr (kFolds) *quad = bits;
      if (writes) *reinterpret_cast<uint2*>(x + layout.Index(b, m)) = bits;
    }
  }

  __device__ __forceinline__ float4 Convolve(int m, bool writes, float4 input, const Constants& constants,
                                             const Operands& operands) const {
#pragma unroll
    for (int i = 0; i < kQuad; ++i) At(input, i) = RoundToBf16(F32x1{At(input, i)}).v;
    float4 sum = constants.conv_bias;
    float* to = SlotData(window, operands.slot) + m;
#pragma unroll
    for (int k = 0; k < kMaxStepConvWidth - 1; ++k) {
      if (k >= conv_width - 1) continue;
      sum = Tap(sum, operands.window[k], constants.weight[k]);
      if (k > 0 && writes) __stcs(reinterpret_cast<float4*>(to + (k - 1) * channels), operands.window[k]);
    }
#pragma unroll
    for (int k = 0; k < kMaxStepConvWidth; ++k) {
      if (k == conv_width - 1) sum = Tap(sum, input, constants.weight[k]);
    }
    if (conv_width > 1 && writes) __stcs(reinterpret_cast<float4*>(to + (conv_width - 2) * channels), input);
    return SiluEach(sum);
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
    if (!inside) return;
    if (kScaled) sum = Scaled(sum, scale);
    float* to = y + b * stride + m;
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
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_PRODUCT_OUTPUTS_CUH_
