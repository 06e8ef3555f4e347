// Words that the blocks of one kernel hand to each other through L2, without a barrier: a word that is not
// there yet has all its bits set, which no sum and no rounding to bf16 leaves (their NaN is another), so that
// a word is its own flag and a reader polls what it needs. The thread that writes a word clears it later,
// when all have read it, and writes it anew later still; some places that take turns lie between the two.
//
// No fence orders a clear before what its thread writes next elsewhere: that it has reached L2 when the place
// is polled again rests on the layer that lies between, 10 us or more of large models and 3 or more of small
// ones, where a store takes one at most.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_HANDOVER_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_HANDOVER_CUH_

#include <cstdint>

#include "kernels/device/random_delay.cuh"

namespace mambad::kernels {

inline constexpr std::uint32_t kAbsent = ~0u;
inline constexpr std::uint16_t kAbsent16 = 0xffff;

// ld.relaxed.gpu of 16, 4 and 2 bytes.
__device__ __forceinline__ uint4 LoadHanded16(const void* from) {
  uint4 v;
  asm volatile("ld.relaxed.gpu.global.v4.u32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "l"(from)
               : "memory");
  return v;
}
__device__ __forceinline__ std::uint32_t LoadHanded4(const void* from) {
  std::uint32_t v;
  asm volatile("ld.relaxed.gpu.global.u32 %0, [%1];" : "=r"(v) : "l"(from) : "memory");
  return v;
}
__device__ __forceinline__ std::uint16_t LoadHanded2(const void* from) {
  std::uint16_t v;
  asm volatile("ld.relaxed.gpu.global.u16 %0, [%1];" : "=h"(v) : "l"(from) : "memory");
  return v;
}
__device__ __forceinline__ bool IsAbsent(const uint4& v) {
  return max(max(v.x, v.y), max(v.z, v.w)) == kAbsent;
}

// Bounds a wait for another block: a promise that is broken ends in an error, not in a hang.
class Patience {
 public:
  __device__ __forceinline__ void Spend() {
    if (--left_ == 0) __trap();
  }

 private:
  int left_ = 1 << 24;  // some ten seconds
};

__device__ __forceinline__ std::uint32_t AwaitOne(const void* from) {
  Patience patience;
  std::uint32_t v;
  while ((v = LoadHanded4(from)) == kAbsent) patience.Spend();
  return v;
}

// By a warp: until the word at `from` is there, which one lane asks for. All others would crowd the few lines
// that everybody waits for, and keep the words from coming.
__device__ __forceinline__ void AwaitWord(const void* from) {
  DelayAtRandom<DelayAt::kHandover, 8>();
  if (threadIdx.x % 32 == 0) AwaitOne(from);
  __syncwarp();
}

// kCount times 16 bytes, of which `wants(i)` says whether this thread needs them, all under way at once.
template <int kCount, class From, class Wants>
__device__ __forceinline__ void Await(uint4 (&v)[kCount], const From& from, const Wants& wants) {
  DelayAtRandom<DelayAt::kHandover, 8>();
  Patience patience;
  bool absent;
  do {
#pragma unroll
    for (int i = 0; i < kCount; ++i) {
      if (wants(i)) v[i] = LoadHanded16(from(i));
    }
    absent = false;
#pragma unroll
    for (int i = 0; i < kCount; ++i) absent |= wants(i) && IsAbsent(v[i]);
    patience.Spend();
  } while (absent);
}

__device__ __forceinline__ float4 FloatsOf(const uint4& v) {
  return {__uint_as_float(v.x), __uint_as_float(v.y), __uint_as_float(v.z), __uint_as_float(v.w)};
}

// Four floats that were asked for once.
__device__ __forceinline__ void AwaitFloats(const float* from, float4& v) {
  Patience patience;
  while (IsAbsent({__float_as_uint(v.x), __float_as_uint(v.y), __float_as_uint(v.z), __float_as_uint(v.w)})) {
    v = FloatsOf(LoadHanded16(from));
    patience.Spend();
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_HANDOVER_CUH_
