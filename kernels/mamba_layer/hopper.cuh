// The instructions of sm_90 that the kernels of a decode step use beside those of device/, one function each.
// PTX ISA names in the comments. Before WaitForPreviousKernel a kernel of a step may read slots too: no
// kernel of the same step before it writes them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_HOPPER_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_HOPPER_CUH_

#include <cstdint>

#include "kernels/device/ampere.cuh"
#include "kernels/device/hopper.cuh"

namespace mambad::kernels::hopper {

using kernels::AsyncCopy16, kernels::AsyncCopyCommit, kernels::AsyncCopyWait, kernels::AsyncCopyWaitAll;
using kernels::ClusterArriveRelaxed, kernels::ClusterWait, kernels::Mma, kernels::SharedFence;

// One arrival at a barrier of this block.
__device__ __forceinline__ void Arrive(std::uint64_t* barrier) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(SharedAddress(barrier)) : "memory");
}

// `value`, of which the compiler knows nothing: what follows from it is computed behind this, and takes no
// registers before.
__device__ __forceinline__ int Opaque(int value) {
  asm volatile("" : "+r"(value));
  return value;
}

// bar.sync among `threads` of the block; barrier 0 is __syncthreads.
__device__ __forceinline__ void NamedBarrier(int barrier, int threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// FenceBarrierInit, and for bulk copies that this thread asks for itself. (A fence.proxy.async of all memory
// takes as long as a store to global memory.)
__device__ __forceinline__ void BarrierInitFence() {
  FenceBarrierInit();
  SharedFence();
}

// ldmatrix.x4: lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void LoadMatrices(std::uint32_t address, std::uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// stmatrix.x4: the reverse.
__device__ __forceinline__ void StoreMatrices(std::uint32_t address, const std::uint32_t (&r)[4]) {
  asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(r[0]),
               "r"(r[1]), "r"(r[2]), "r"(r[3])
               : "memory");
}

// Of shared memory, 16 bytes.
__device__ __forceinline__ uint4 LoadShared16(std::uint32_t address) {
  uint4 v;
  asm volatile("ld.shared.v4.b32 {%0, %1, %2, %3}, [%4];"
               : "=r"(v.x), "=r"(v.y), "=r"(v.z), "=r"(v.w)
               : "r"(address)
               : "memory");
  return v;
}
__device__ __forceinline__ void StoreShared16(std::uint32_t address, uint4 v) {
  asm volatile("st.shared.v4.b32 [%0], {%1, %2, %3, %4};" ::"r"(address), "r"(v.x), "r"(v.y), "r"(v.z),
               "r"(v.w)
               : "memory");
}

// The shared memory of block `rank` of the cluster, at `address` of this block's.
__device__ __forceinline__ std::uint32_t AddressInRank(std::uint32_t address, unsigned rank) {
  std::uint32_t remote;
  asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(address), "r"(rank));
  return remote;
}
__device__ __forceinline__ void StoreToRank(std::uint32_t remote, float value) {
  asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
}
// Four floats.
__device__ __forceinline__ float4 LoadFromRank(std::uint32_t remote) {
  float4 v;
  asm volatile("ld.shared::cluster.v4.f32 {%0, %1, %2, %3}, [%4];"
               : "=f"(v.x), "=f"(v.y), "=f"(v.z), "=f"(v.w)
               : "r"(remote));
  return v;
}

}  // namespace mambad::kernels::hopper

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_HOPPER_CUH_
