// The instructions of sm_90 that the kernels of a decode step use beside those of device/hopper.cuh, one
// function each. PTX ISA names in the comments. Before WaitForPreviousKernel a kernel of a step may read
// slots too: no kernel of the same step before it writes them.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_HOPPER_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_HOPPER_CUH_

#include <cstdint>

#include "kernels/device/hopper.cuh"

namespace mambad::kernels::hopper {

// After InitBarrier, before any other thread or bulk copy uses the barrier.
__device__ __forceinline__ void BarrierInitFence() {
  FenceBarrierInit();
  asm volatile("fence.proxy.async;" ::: "memory");
}

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

// cp.async: 16 bytes from global (L2) to shared memory.
__device__ __forceinline__ void AsyncCopy16(void* to, const void* from) {
  asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(SharedAddress(to)), "l"(from) : "memory");
}
__device__ __forceinline__ void AsyncCopyCommit() { asm volatile("cp.async.commit_group;" ::: "memory"); }
template <int kPending>
__device__ __forceinline__ void AsyncCopyWait() {
  asm volatile("cp.async.wait_group %0;" ::"n"(kPending) : "memory");
}
__device__ __forceinline__ void AsyncCopyWaitAll() { asm volatile("cp.async.wait_all;" ::: "memory"); }

// What ordinary stores or cp.async of this thread wrote to shared memory, wgmma may read after a barrier.
__device__ __forceinline__ void SharedFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// ldmatrix.x4: lane i gives the address of row i % 8 of matrix i / 8.
__device__ __forceinline__ void LoadMatrices(std::uint32_t address, std::uint32_t (&r)[4]) {
  asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
               : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
               : "r"(address)
               : "memory");
}

// mma.sync m16n8k16: d += a * b.
__device__ __forceinline__ void Mma(float (&d)[4], const std::uint32_t (&a)[4], std::uint32_t b0,
                                    std::uint32_t b1) {
  asm volatile(
      "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, "
      "{%0, %1, %2, %3};"
      : "+f"(d[0]), "+f"(d[1]), "+f"(d[2]), "+f"(d[3])
      : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// barrier.cluster
__device__ __forceinline__ void ClusterArrive() {
  DelayAtRandom<DelayAt::kCluster, 2>();
  asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  DelayAtRandom<DelayAt::kCluster, 2>();
}
__device__ __forceinline__ void ClusterSync() {
  ClusterArrive();
  ClusterWait();
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
