// The threads that work on one row: a cluster of CTAs, or a single CTA. All of them reach every collective
// call, and all of them get its result. Only integers are reduced, so no result depends on the split.
#ifndef MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_
#define MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_

#include <cooperative_groups.h>

#include <cstdint>

namespace mambad::kernels {

inline constexpr int kRowThreads = 1024;
inline constexpr int kRowWarps = kRowThreads / 32;
inline constexpr unsigned kAllLanes = 0xffffffffu;

__device__ inline std::uint64_t WarpSum(std::uint64_t value) {
  for (int offset = 16; offset > 0; offset /= 2) value += __shfl_xor_sync(kAllLanes, value, offset);
  return value;
}

__device__ inline std::uint64_t WarpMax(std::uint64_t value) {
  for (int offset = 16; offset > 0; offset /= 2) {
    const std::uint64_t other = __shfl_xor_sync(kAllLanes, value, offset);
    value = other > value ? other : value;
  }
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
  // Two sets each, used in turn: a set is written again only after the barrier (of the CTA, of the group) of
  // the call between, which follows its last reads.
  struct Shared {
    std::uint64_t warp[2][2][kRowWarps];
    std::uint64_t cta[2][2];
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

  struct Pair {
    std::uint64_t a, b;
  };

  __device__ Pair MaxAll(Pair value) {
    return Reduce({WarpMax(value.a), WarpMax(value.b)}, [](std::uint64_t v) { return WarpMax(v); });
  }
  __device__ std::uint64_t SumAll(std::uint64_t value) {
    return Reduce({WarpSum(value), 0}, [](std::uint64_t v) { return WarpSum(v); }).a;
  }

  struct Scanned {
    std::uint64_t before;  // of the threads of this CTA before this one
    std::uint64_t total;   // of this CTA
  };
  // Within the CTA.
  __device__ Scanned ScanCta(std::uint64_t value) {
    std::uint64_t* sums = shared_.warp[warp_turn_ ^= 1][0];
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
    std::uint64_t* mine = &shared_.cta[cta_turn_ ^= 1][0];
    if (threadIdx.x == 0) *mine = value;
    Sync();
    Scanned result{0, 0};
    for (int peer = 0; peer < size; ++peer) {
      const std::uint64_t sum = *At(peer, mine);
      if (peer < rank) result.before += sum;
      result.total += sum;
    }
    return result;
  }

  int rank = 0;  // of this CTA
  int size = 1;  // in CTAs
  const int warp;
  const int lane;

 private:
  template <class WarpReduce>
  __device__ Pair Reduce(Pair value, WarpReduce reduce) {
    const int turn = warp_turn_ ^= 1;
    if (lane == 0) {
      shared_.warp[turn][0][warp] = value.a;
      shared_.warp[turn][1][warp] = value.b;
    }
    __syncthreads();
    Pair all{reduce(shared_.warp[turn][0][lane]), reduce(shared_.warp[turn][1][lane])};
    if (size == 1) return all;
    std::uint64_t* mine = shared_.cta[cta_turn_ ^= 1];
    if (threadIdx.x == 0) {
      mine[0] = all.a;
      mine[1] = all.b;
    }
    Sync();
    const int peer = lane < size ? lane : rank;
    const std::uint64_t* theirs = At(peer, mine);
    const bool counts = lane < size;
    all.a = reduce(counts ? theirs[0] : 0);
    all.b = reduce(counts ? theirs[1] : 0);
    return all;
  }

  Shared& shared_;
  int warp_turn_ = 0;
  int cta_turn_ = 0;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_ROW_GROUP_CUDA_CUH_
