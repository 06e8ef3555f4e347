// The instructions of sm_80 that several kernels use: copies to shared memory that nobody waits for at once,
// and a warp's matrix product. PTX ISA names in the comments.
#ifndef MAMBAD_KERNELS_DEVICE_AMPERE_CUH_
#define MAMBAD_KERNELS_DEVICE_AMPERE_CUH_

#include <cstdint>

namespace mambad::kernels {

__device__ __forceinline__ std::uint32_t SharedAddress(const void* p) {
  return static_cast<std::uint32_t>(__cvta_generic_to_shared(p));
}

// cp.async: 16 bytes from global (L2) to shared memory.
__device__ __forceinline__ void AsyncCopy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}
// Through L1, for what other warps read too.
__device__ __forceinline__ void AsyncCopy16Shared(void* to, const void* from) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}
// Without reading, zeros.
__device__ __forceinline__ void AsyncCopy16OrZeros(void* to, const void* from, bool read) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(read ? 16 : 0)
               : "memory");
}
__device__ __forceinline__ void AsyncCopy4OrZeros(void* to, const void* from, bool read) {
  asm volatile("cp.async.ca.shared.global [%0], [%1], 4, %2;" ::"r"(SharedAddress(to)), "l"(from),
               "r"(read ? 4 : 0)
               : "memory");
}
__device__ __forceinline__ void AsyncCopyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void AsyncCopyWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void AsyncCopyWaitAll() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// mma.sync m16n8k16: d += a * b.
__device__ __forceinline__ void Mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_AMPERE_CUH_
