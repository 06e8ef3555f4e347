// The threads that work on one row: a cluster of CTAs, or a single CTA. All of them reach every collective
// call, and all of them get its result. Only integers are reduced, so no result depends on the split.
#ifndef MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_
#define MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_

#include <cooperative_groups.h>

#include <cstdint>

#include "kernels/device/random_delay.cuh"

namespace mambad::kernels {

inline constexpr int kRowThreads = 1024;
inline constexpr int kRowWarps = kRowThreads / 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline std::uint64_t WarpSum(std::uint64_t value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

__device__ inline std::uint64_t WarpInclusiveScan(std::uint64_t value, int lane) {
  for (int offset = 1; offset < 32; offset *= 2) {
    const std::uint64_t below = __shfl_up_sync(kAllLanes, value, offset);
    if (lane >= offset) value += below;
  }
  return value;
}

class RowGroup {
 public:
  // Maxima: of `first`, among equals of `second`; and of `other`.
  struct Top {
    std::uint32_t first, second, other;
  };

  static constexpr int kMaxCtas = 8;

  // Two sets each, used in turn: a set is written again only after the barrier (of the CTA, of the group) of
  // the call between, which follows its last reads.
  struct Shared {
    Top warp_top[2][kRowWarps];
    Top cta_top[2][kMaxCtas];
    std::uint64_t warp_sum[2][kRowWarps];
    std::uint64_t cta_sum[2][kMaxCtas];
  };

  __device__ explicit RowGroup(Shared& shared)
      : warp(threadIdx.x / 32), lane(threadIdx.x % 32), shared_(shared) {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    rank = cooperative_groups::this_cluster().block_rank();
    size = cooperative_groups::this_cluster().num_blocks();
#endif
  }

  // Orders all shared memory accesses of the group.
  __device__ void Sync() const {
    DelayAtRandom<DelayAt::kCluster, 4>();
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (size > 1) {
      cooperative_groups::this_cluster().sync();
      return;
    }
#endif
    __syncthreads();
  }

  // The same shared variable of another CTA.
  template <class T>
  __device__ T* At(int peer, T* mine) const {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
    if (size > 1) return cooperative_groups::this_cluster().map_shared_rank(mine, peer);
#endif
    return mine;
  }

  // Within the CTA.
  __device__ Top MaxCta(Top value) {
    value = WarpTop(value);
    Top* tops = shared_.warp_top[warp_turn_ ^= 1];
    if (lane == 0) tops[warp] = value;
    __syncthreads();
    return WarpTop(tops[lane]);
  }
  __device__ Top MaxAll(Top value) {
    value = MaxCta(value);
    if (size == 1) return value;
    const Top* tops = Exchange(value);
    return WarpTop(tops[lane < size ? lane : rank]);
  }

  // One value of each CTA, by rank; all threads of a CTA give the same. Each CTA sends its own to the others,
  // so nobody reads a CTA's memory after the barrier, and any CTA may leave then.
  __device__ const Top* Exchange(const Top& value) { return Exchange(shared_.cta_top, value); }

  static __device__ Top WarpTop(Top value) {
    const std::uint32_t first = __reduce_max_sync(kAllLanes, value.first);
    return {first, __reduce_max_sync(kAllLanes, value.first == first ? value.second : 0u),
            __reduce_max_sync(kAllLanes, value.other)};
  }

  __device__ std::uint64_t SumAll(std::uint64_t value) { return ScanGroup(ScanCta(value).total).total; }

  struct Scanned {
    std::uint64_t before;  // of the threads of this CTA before this one
    std::uint64_t total;   // of this CTA
  };
  // Within the CTA.
  __device__ Scanned ScanCta(std::uint64_t value) {
    std::uint64_t* sums = shared_.warp_sum[warp_turn_ ^= 1];
    const std::uint64_t inclusive = WarpInclusiveScan(value, lane);
    if (lane == 31) sums[warp] = inclusive;
    __syncthreads();
    const std::uint64_t warps = WarpInclusiveScan(sums[lane], lane);
    const std::uint64_t below = __shfl_sync(kAllLanes, warps, warp > 0 ? warp - 1 : 0);
    return {(warp > 0 ? below : 0) + inclusive - value, __shfl_sync(kAllLanes, warps, 31)};
  }

  // The sums of one value per CTA: of the CTAs before this one, and of all.
  __device__ Scanned ScanGroup(std::uint64_t value) {
    if (size == 1) return {0, value};
    const std::uint64_t* sums = Exchange(shared_.cta_sum, value);
    const std::uint64_t through = WarpInclusiveScan(lane < size ? sums[lane] : 0, lane);
    return {__shfl_sync(kAllLanes, through, rank) - value, __shfl_sync(kAllLanes, through, 31)};
  }

  int rank = 0;  // of this CTA
  int size = 1;  // in CTAs
  const int warp;
  const int lane;

 private:
  template <class T>
  __device__ const T* Exchange(T (&slots)[2][kMaxCtas], const T& value) {
    T* mine = slots[cta_turn_ ^= 1];
    if (threadIdx.x < size) At(threadIdx.x, mine)[rank] = value;
    Sync();
    return mine;
  }

  Shared& shared_;
  int warp_turn_ = 0;
  int cta_turn_ = 0;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_
