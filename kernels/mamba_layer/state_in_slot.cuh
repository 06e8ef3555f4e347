// How four channels of a state lie in a slot, fp32 or bf16: what a state step loads, widens and stores.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STATE_IN_SLOT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STATE_IN_SLOT_CUH_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/math/state_rounding.h"

namespace mambad::kernels {

template <bool kNarrow>
struct StateInSlot;

template <>
struct StateInSlot<false> {
  using Element = float;
  using Quad = float4;

  static __device__ __forceinline__ Quad Load(const Element* at) {
    return __ldcs(reinterpret_cast<const float4*>(at));
  }
  static __device__ __forceinline__ float4 Widen(Quad h) { return h; }
  // The i-th that a lane takes of its indices n.
  static __device__ constexpr int Order(int i, int) { return i; }
};

template <>
struct StateInSlot<true> {
  using Element = std::uint16_t;
  using Quad = uint2;

  static __device__ __forceinline__ Quad Load(const Element* at) {
    return __ldcs(reinterpret_cast<const uint2*>(at));
  }
  static __device__ __forceinline__ float4 Widen(Quad h) { return WidenBf16(h); }
  // n and n + 4 one after the other: they share their random words. `lanes` divide the n among them.
  static __device__ constexpr int Order(int i, int lanes) {
    const int span = 8 / lanes;
    return i / span * span + i % span / 2 + i % 2 * (span / 2);
  }
};

// RoundToBf16AtRandom of four channels; `second`: the words' high halves are theirs.
__device__ __forceinline__ uint2 RoundQuad(float4 h, const PhiloxWords& words, bool second) {
  std::uint32_t carried[kQuad];
#pragma unroll
  for (int q = 0; q < kQuad; ++q) {
    const std::uint32_t bits = second ? words.w[q] >> 16 : words.w[q] & 0xffffu;
    const bool finite = fabsf(At(h, q)) < __int_as_float(0x7f800000);
    carried[q] = __float_as_uint(At(h, q)) + (finite ? bits : 0u);
  }
  return {__byte_perm(carried[0], carried[1], 0x7632), __byte_perm(carried[2], carried[3], 0x7632)};
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STATE_IN_SLOT_CUH_
