// wgmma.mma_async m64nNk16: bf16 operands in shared memory, fp32 accumulators.
#ifndef MAMBAD_KERNELS_DEVICE_WGMMA_CUH_
#define MAMBAD_KERNELS_DEVICE_WGMMA_CUH_

#include <cstdint>

#include "kernels/device/hopper.cuh"

namespace mambad::kernels {

// An operand of core matrices: those that follow each other along k lie 128 bytes apart, those along rows
// `row_stride` bytes; k-major, no swizzle.
__device__ __forceinline__ std::uint64_t MatrixDescriptor(const void* shared, int row_stride) {
  return (SharedAddress(shared) & 0x3ffffu) >> 4 | std::uint64_t{128 >> 4} << 16 |
         static_cast<std::uint64_t>(row_stride >> 4) << 32;
}

// The accumulators' registers are about to be used by wgmma.
__device__ __forceinline__ void WgmmaFence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ __forceinline__ void WgmmaCommit() {
  asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
}
// Until at most kPending committed groups are still running.
template <int kPending>
__device__ __forceinline__ void WgmmaWait() {
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(kPending) : "memory");
}

// A warpgroup's registers a thread, in kernels whose launch bounds give them all to the block.
template <int kCount>
__device__ __forceinline__ void ReleaseRegisters() {
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(kCount));
}
template <int kCount>
__device__ __forceinline__ void TakeRegisters() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(kCount));
}

// d (64 x kCols) = a (64 x 16) b (16 x kCols), plus d unless `start`. A thread's d[4 * block + 2 * half + i]
// is row 16 * (warp % 4) + 8 * half + lane / 4 and column 8 * block + 2 * (lane % 4) + i.
template <int kCols>
__device__ __forceinline__ void Wgmma(float (&d)[kCols / 2], std::uint64_t a, std::uint64_t b, bool start);
// d += a b, without the predicate's register.
template <int kCols>
__device__ __forceinline__ void WgmmaAdd(float (&d)[kCols / 2], std::uint64_t a, std::uint64_t b);

// An asm statement lists its registers: the text of the first n, and the operands.
#define MAMBAD_TEXT_8 "%0, %1, %2, %3, %4, %5, %6, %7"
#define MAMBAD_TEXT_16 \
  MAMBAD_TEXT_8        \
  ", %8, %9, %10, %11, %12, %13, %14, %15"
#define MAMBAD_TEXT_20 \
  MAMBAD_TEXT_16       \
  ", %16, %17, %18, %19"
#define MAMBAD_TEXT_32 \
  MAMBAD_TEXT_16       \
  ", %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31"
#define MAMBAD_TEXT_40 \
  MAMBAD_TEXT_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39"
#define MAMBAD_TEXT_48 \
  MAMBAD_TEXT_32       \
  ", %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47"
#define MAMBAD_TEXT_64 \
  MAMBAD_TEXT_48       \
  ", %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63"
#define MAMBAD_TEXT_80 \
  MAMBAD_TEXT_64       \
  ", %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79"
#define MAMBAD_TEXT_96 \
  MAMBAD_TEXT_80       \
  ", %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95"
#define MAMBAD_TEXT_128                                                                          \
  MAMBAD_TEXT_96                                                                                 \
  ", %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111" \
  ", %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127"
#define MAMBAD_D8(i)                                                                          \
  "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
      "+f"(d[i + 6]), "+f"(d[i + 7])
#define MAMBAD_D16(i) MAMBAD_D8(i), MAMBAD_D8(i + 8)
#define MAMBAD_D20(i) MAMBAD_D16(i), "+f"(d[i + 16]), "+f"(d[i + 17]), "+f"(d[i + 18]), "+f"(d[i + 19])
#define MAMBAD_D32(i) MAMBAD_D16(i), MAMBAD_D16(i + 16)
#define MAMBAD_D40(i) MAMBAD_D32(i), MAMBAD_D8(i + 32)
#define MAMBAD_D48(i) MAMBAD_D32(i), MAMBAD_D16(i + 32)
#define MAMBAD_D64(i) MAMBAD_D32(i), MAMBAD_D32(i + 32)
#define MAMBAD_D80(i) MAMBAD_D64(i), MAMBAD_D16(i + 64)
#define MAMBAD_D96(i) MAMBAD_D64(i), MAMBAD_D32(i + 64)
#define MAMBAD_D128(i) MAMBAD_D64(i), MAMBAD_D64(i + 64)

// kA, kB, kAdd: the numbers of the operands behind the accumulators.
#define MAMBAD_WGMMA(kCols, kRegisters, kA, kB, kAdd)                                                        \
  template <>                                                                                                \
  __device__ __forceinline__ void Wgmma<kCols>(float(&d)[kRegisters], std::uint64_t a, std::uint64_t b,      \
                                               bool start) {                                                 \
    asm volatile("{\n.reg .pred add;\nsetp.ne.b32 add, %" #kAdd                                              \
                 ", 0;\n"                                                                                    \
                 "wgmma.mma_async.sync.aligned.m64n" #kCols "k16.f32.bf16.bf16 {" MAMBAD_TEXT_##kRegisters   \
                 "}, %" #kA ", %" #kB ", add, 1, 1, 0, 0;\n}\n"                                              \
                 : MAMBAD_D##kRegisters(0)                                                                   \
                 : "l"(a), "l"(b), "r"(start ? 0 : 1));                                                      \
  }                                                                                                          \
  template <>                                                                                                \
  __device__ __forceinline__ void WgmmaAdd<kCols>(float(&d)[kRegisters], std::uint64_t a, std::uint64_t b) { \
    asm volatile("wgmma.mma_async.sync.aligned.m64n" #kCols "k16.f32.bf16.bf16 {" MAMBAD_TEXT_##kRegisters   \
                 "}, %" #kA ", %" #kB ", 1, 1, 1, 0, 0;"                                                     \
                 : MAMBAD_D##kRegisters(0)                                                                   \
                 : "l"(a), "l"(b));                                                                          \
  }
MAMBAD_WGMMA(16, 8, 8, 9, 10)
MAMBAD_WGMMA(32, 16, 16, 17, 18)
MAMBAD_WGMMA(40, 20, 20, 21, 22)
MAMBAD_WGMMA(64, 32, 32, 33, 34)
MAMBAD_WGMMA(80, 40, 40, 41, 42)
MAMBAD_WGMMA(96, 48, 48, 49, 50)
MAMBAD_WGMMA(128, 64, 64, 65, 66)
MAMBAD_WGMMA(160, 80, 80, 81, 82)
MAMBAD_WGMMA(192, 96, 96, 97, 98)
MAMBAD_WGMMA(256, 128, 128, 129, 130)

#undef MAMBAD_WGMMA
#undef MAMBAD_TEXT_8
#undef MAMBAD_D8
#undef MAMBAD_TEXT_16
#undef MAMBAD_D16
#undef MAMBAD_TEXT_20
#undef MAMBAD_D20
#undef MAMBAD_TEXT_32
#undef MAMBAD_D32
#undef MAMBAD_TEXT_40
#undef MAMBAD_D40
#undef MAMBAD_TEXT_48
#undef MAMBAD_D48
#undef MAMBAD_TEXT_64
#undef MAMBAD_D64
#undef MAMBAD_TEXT_80
#undef MAMBAD_D80
#undef MAMBAD_TEXT_96
#undef MAMBAD_D96
#undef MAMBAD_TEXT_128
#undef MAMBAD_D128

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_WGMMA_CUH_
