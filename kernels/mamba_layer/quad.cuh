// Four consecutive channels: what one thread loads, computes and stores at a time.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_QUAD_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_QUAD_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/mamba_layer/step_layout.h"

namespace mambad::kernels {

inline constexpr int kQuad = 4;

__device__ __forceinline__ float& At(float4& v, int i) { return (&v.x)[i]; }
__device__ __forceinline__ float At(const float4& v, int i) { return (&v.x)[i]; }

__device__ __forceinline__ float4 AddEach(float4 a, float4 b) {
  return {__fadd_rn(a.x, b.x), __fadd_rn(a.y, b.y), __fadd_rn(a.z, b.z), __fadd_rn(a.w, b.w)};
}

__device__ __forceinline__ float4 MultiplyEach(float4 a, float4 b) {
  return {__fmul_rn(a.x, b.x), __fmul_rn(a.y, b.y), __fmul_rn(a.z, b.z), __fmul_rn(a.w, b.w)};
}

__device__ __forceinline__ std::uint32_t Bf16Bits(float2 v) {
  const __nv_bfloat162 pair = __floats2bfloat162_rn(v.x, v.y);
  return reinterpret_cast<const std::uint32_t&>(pair);
}
__device__ __forceinline__ uint2 Bf16Bits(float4 v) {
  return {Bf16Bits(float2{v.x, v.y}), Bf16Bits(float2{v.z, v.w})};
}

// `to` is 8-byte aligned.
__device__ __forceinline__ void StoreBf16(std::uint16_t* to, float4 v) {
  *reinterpret_cast<uint2*>(to) = Bf16Bits(v);
}

__device__ __forceinline__ float4 WidenBf16(uint2 bits) {
  return {__uint_as_float(bits.x << 16), __uint_as_float(bits.x & 0xffff0000u), __uint_as_float(bits.y << 16),
          __uint_as_float(bits.y & 0xffff0000u)};
}

__device__ __forceinline__ float4 Load4(const float* p) { return *reinterpret_cast<const float4*>(p); }

// As written by an earlier kernel of this stream: from L2, never from an L1 line of before.
__device__ __forceinline__ float4 LoadFresh4(const float* p) {
  return __ldcg(reinterpret_cast<const float4*>(p));
}
__device__ __forceinline__ uint2 LoadFreshBf16(const std::uint16_t* p) {
  return __ldcg(reinterpret_cast<const uint2*>(p));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_QUAD_CUH_
