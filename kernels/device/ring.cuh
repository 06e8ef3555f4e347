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

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_RING_CUH_
