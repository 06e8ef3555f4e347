// A ring of stages in shared memory, guarded by barriers: what its feeders and readers have in common.
#ifndef MAMBAD_KERNELS_DEVICE_RING_CUH_
#define MAMBAD_KERNELS_DEVICE_RING_CUH_

#include <cstdint>

#include "kernels/device/hopper.cuh"

namespace mambad::kernels {

// Where a role stands in the ring.
template <int kStages>
struct RingPlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void Next() {
    if (++stage == kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
};

// By a warp that has read a stage: its lanes tell the kBlocks blocks of the cluster.
template <int kBlocks>
__device__ __forceinline__ void ReleaseStage(std::uint64_t* empty) {
  const std::uint32_t lane = threadIdx.x % 32;
  if (lane < kBlocks) ArriveCluster(empty, lane);
}

// By a feeder, at the place behind its last stage: until all that was fed is released, by the warps of all
// blocks of the cluster, each behind the barrier that counted its bytes. Then no other block will reach into
// this one's shared memory: it may end without a barrier of the cluster.
template <int kStages>
__device__ __forceinline__ void AwaitReleases(std::uint64_t* empty, RingPlace<kStages> place) {
  for (int i = 0; i < kStages; ++i, place.Next()) WaitBarrier(empty + place.stage, place.parity ^ 1);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_RING_CUH_
