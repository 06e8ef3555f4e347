// Hopper's asynchronous machinery by its PTX names: barriers in shared memory, bulk copies, clusters,
// dependent launches. Everything here needs compute capability 9.0, except the dependent launch, which is
// nothing before that.
#ifndef MAMBAD_KERNELS_DEVICE_HOPPER_CUH_
#define MAMBAD_KERNELS_DEVICE_HOPPER_CUH_

#include <cstdint>

#include "kernels/device/ampere.cuh"
#include "kernels/device/random_delay.cuh"

namespace mambad::kernels {

// Before it nothing global is written, and only what is older than the previous kernel is read: constants,
// and what came before a kernel that allowed this one behind its own wait. Every thread block must run it.
__device__ __forceinline__ void WaitForPreviousKernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  DelayAtRandom<DelayAt::kBeforeWait, 1>();
  asm volatile("griddepcontrol.wait;" ::: "memory");
  DelayAtRandom<DelayAt::kAfterWait, 1>();
#endif
}

// The next kernel may be scheduled as soon as every block of this one got here.
__device__ __forceinline__ void AllowNextKernel() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  DelayAtRandom<DelayAt::kBeforeAllow, 1>();
  asm volatile("griddepcontrol.launch_dependents;");
  DelayAtRandom<DelayAt::kAfterAllow, 1>();
#endif
}

__device__ __forceinline__ void InitBarrier(std::uint64_t* barrier, int arrivals) {
  DelayAtRandom<DelayAt::kBarrier, 4>();
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(SharedAddress(barrier)), "r"(arrivals));
}

// Makes initialised barriers visible to the cluster and to the copy engine.
__device__ __forceinline__ void FenceBarrierInit() {
  asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
}

__device__ __forceinline__ void ArriveExpectBytes(std::uint64_t* barrier, int bytes) {
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(SharedAddress(barrier)),
               "r"(bytes)
               : "memory");
}

// Arrives at the barrier of the same name in block `rank` of the cluster.
__device__ __forceinline__ void ArriveCluster(std::uint64_t* barrier, std::uint32_t rank) {
  DelayAtRandom<DelayAt::kBarrier, 16>();
  asm volatile(
      "{\n"
      ".reg .b32 remote;\n"
      "mapa.shared::cluster.u32 remote, %0, %1;\n"
      "mbarrier.arrive.shared::cluster.b64 _, [remote];\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(rank)
      : "memory");
}

// Orders what this thread read and wrote in shared memory with what copies and wgmma do there, for those that
// it meets at a barrier then.
__device__ __forceinline__ void SharedFence() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

// A thread that waits sleeps so long, or until then: without it, spinning takes issue slots and power.
__device__ __forceinline__ void WaitBarrier(std::uint64_t* barrier, std::uint32_t parity) {
  constexpr int kNanoseconds = 10'000'000;
  asm volatile(
      "{\n"
      ".reg .pred done;\n"
      "again:\n"
      "mbarrier.try_wait.parity.shared::cta.b64 done, [%0], %1, %2;\n"
      "@done bra finished;\n"
      "bra again;\n"
      "finished:\n"
      "}\n" ::"r"(SharedAddress(barrier)),
      "r"(parity), "n"(kNanoseconds)
      : "memory");
  DelayAtRandom<DelayAt::kBarrier, 16>();
}

// A contiguous copy (multiples of 16 bytes) that counts its bytes at the barrier.
__device__ __forceinline__ void BulkCopy(void* to, const void* from, int bytes, std::uint64_t* barrier) {
  DelayAtRandom<DelayAt::kCopy, 16>();
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(
          SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier))
      : "memory");
}

// For what is read once: first to leave the L2.
__device__ __forceinline__ std::uint64_t EvictFirst() {
  std::uint64_t policy;
  asm("createpolicy.fractional.L2::evict_first.b64 %0, 1.0;" : "=l"(policy));
  return policy;
}
__device__ __forceinline__ void BulkCopy(void* to, const void* from, int bytes, std::uint64_t* barrier,
                                         std::uint64_t policy) {
  DelayAtRandom<DelayAt::kCopy, 16>();
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.L2::cache_hint [%0], [%1], %2, "
      "[%3], "
      "%4;" ::"r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier)), "l"(policy)
      : "memory");
}

// The same into one place of every block in `mask`, each counting at its own barrier.
__device__ __forceinline__ void BulkCopyMulticast(void* to, const void* from, int bytes,
                                                  std::uint64_t* barrier, std::uint16_t mask) {
  DelayAtRandom<DelayAt::kCopy, 16>();
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster [%0], [%1], %2, "
      "[%3], "
      "%4;" ::"r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier)), "h"(mask)
      : "memory");
}

__device__ __forceinline__ void BulkCopyMulticast(void* to, const void* from, int bytes,
                                                  std::uint64_t* barrier, std::uint16_t mask,
                                                  std::uint64_t policy) {
  DelayAtRandom<DelayAt::kCopy, 16>();
  asm volatile(
      "cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster.L2::cache_hint "
      "[%0], [%1], %2, [%3], %4, %5;" ::"r"(SharedAddress(to)),
      "l"(from), "r"(bytes), "r"(SharedAddress(barrier)), "h"(mask), "l"(policy)
      : "memory");
}

// A contiguous copy out of shared memory, whose ordinary stores a fence.proxy.async must precede. A thread
// commits and waits for its own: CommitStores makes a group of those since the last.
__device__ __forceinline__ void BulkStore(void* to, const void* from, int bytes) {
  asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to),
               "r"(SharedAddress(from)), "r"(bytes)
               : "memory");
}
__device__ __forceinline__ void CommitStores() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
// Until at most kPending groups still read shared memory, which must outlive them.
template <int kPending>
__device__ __forceinline__ void WaitStoresRead() {
  asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(kPending) : "memory");
}

// Into the L2, without waiting.
__device__ __forceinline__ void BulkPrefetch(const void* from, int bytes) {
  asm volatile("cp.async.bulk.prefetch.L2.global [%0], %1;" ::"l"(from), "r"(bytes) : "memory");
}
__device__ __forceinline__ void PrefetchLine(const void* from) {
  asm volatile("prefetch.global.L2 [%0];" ::"l"(from) : "memory");
}

// True in one lane of a converged warp, which the compiler knows.
__device__ __forceinline__ bool ElectOneLane() {
  std::uint32_t elected;
  asm volatile(
      "{\n"
      ".reg .pred one;\n"
      "elect.sync _|one, 0xffffffff;\n"
      "selp.u32 %0, 1, 0, one;\n"
      "}\n"
      : "=r"(elected));
  return elected != 0;
}

__device__ __forceinline__ std::uint32_t ClusterRank() {
  std::uint32_t rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}

// All that this thread wrote before, and those that it has met at a barrier of its block, other blocks of the
// cluster may read behind ClusterWait. It waits for all of that: not behind stores to global memory.
__device__ __forceinline__ void ReleaseToCluster() { asm volatile("fence.acq_rel.cluster;" ::: "memory"); }

// barrier.cluster. It orders no memory but what FenceBarrierInit and ReleaseToCluster released: an arrival
// that released all would make every thread wait for its stores.
__device__ __forceinline__ void ClusterArriveRelaxed() {
  DelayAtRandom<DelayAt::kCluster, 2>();
  asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}
__device__ __forceinline__ void ClusterWait() {
  asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
  DelayAtRandom<DelayAt::kCluster, 2>();
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_HOPPER_CUH_
