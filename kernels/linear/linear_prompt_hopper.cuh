// The prompt product on Hopper: a persistent kernel of clusters of two blocks. A block's tile is 128 tokens
// x kCols outputs; the two blocks of a cluster take consecutive token tiles and share the weights, of which
// each fetches one half for both. One warp feeds a ring of stages (a slab of k each) by bulk copies, two
// warpgroups of 64 tokens each multiply. Weights do not wait for the kernel before this one.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_

#include "kernels/base/token_tiles.h"
#include "kernels/device/hopper.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_prompt.cuh"

namespace mambad::kernels {

inline constexpr int kLinearPromptThreads = 2 * 128 + 32;
inline constexpr int kClusterBlocks = 2;
inline constexpr int kWeightTileBlocks = kTileRows / kCore;  // row blocks of a tile of the packed weight

// kBlocks: how many blocks share a multiprocessor. One, with a deep ring, is best for a long K; with a short
// K the epilogue counts most, and another block's product hides it.
template <int kCols, int kBlocks>
struct LinearStages {
  static constexpr int kSlabBlockBytes = 8 * 64 * 2;  // 8 rows of a slab
  static constexpr int kXBytes = kTokenTile / 8 * kSlabBlockBytes;
  static constexpr int kWBytes = kCols / 8 * kSlabBlockBytes;
  static constexpr int kStageBytes = kXBytes + kWBytes;
  static constexpr int kStages = (kBlocks == 1 ? 200 : 96) * 1024 / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024 + 2 * kStages * 8;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

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

// A cluster's tile. Tiles are taken by groups of token pairs whose activations stay in L2 while all the
// weights pass; within a group tokens run fastest, so that the clusters running together share weights.
struct ClusterTile {
  static constexpr int kGroupPairs = 8;
  int token_pair, segment, column_tile;

  __device__ static int Pairs(const LinearPromptShape& shape) {
    return (shape.token_tiles + 1) / kClusterBlocks;
  }
  __device__ static ClusterTile At(const LinearPromptShape& shape, int index) {
    const int columns = shape.segments * shape.column_tiles;
    const int group = index / (kGroupPairs * columns);
    const int first = group * kGroupPairs;
    const int width = min(kGroupPairs, Pairs(shape) - first);
    const int in_group = index - first * columns;
    const int column = in_group / width;
    return {first + in_group % width, column % shape.segments, column / shape.segments};
  }
  __device__ static int Count(const LinearPromptShape& shape) {
    return Pairs(shape) * shape.segments * shape.column_tiles;
  }
};

template <int kCols, int kBlocks>
struct LinearRing {
  using Stages = LinearStages<kCols, kBlocks>;
  char* data;
  std::uint64_t* full;
  std::uint64_t* empty;

  __device__ explicit LinearRing(char* shared) {
    data = shared + (1024 - SharedAddress(shared) % 1024) % 1024;
    full = reinterpret_cast<std::uint64_t*>(data + Stages::kStages * Stages::kStageBytes);
    empty = full + Stages::kStages;
  }
  __device__ void Init() const {
    for (int i = 0; i < Stages::kStages; ++i) {
      InitBarrier(full + i, 1);
      InitBarrier(empty + i, kClusterBlocks * 8);  // every multiplying warp of the cluster
    }
    FenceBarrierInit();
  }
  __device__ char* X(int stage) const { return data + stage * Stages::kStageBytes; }
  __device__ char* W(int stage) const { return X(stage) + Stages::kXBytes; }
};

// The copies that fill a stage. A tile past the end repeats the last one and is not stored, and so do rows
// past the padded weight.
template <int kCols, int kBlocks>
struct StageCopies {
  const LinearPromptShape& shape;
  const LinearRing<kCols, kBlocks>& ring;
  int rank;

  __device__ void FetchW(int stage, const ClusterTile& tile, int step) const {
    using Stages = LinearStages<kCols, kBlocks>;
    constexpr int kHalfBlocks = kCols / 8 / kClusterBlocks;
    ArriveExpectBytes(ring.full + stage, Stages::kStageBytes);
    const int slab = tile.segment * shape.segment_slabs + step;
    const int first = tile.column_tile * (kCols / 8) + rank * kHalfBlocks;
    char* const to = ring.W(stage) + rank * kHalfBlocks * Stages::kSlabBlockBytes;
    // At most two pieces: a half may reach over the end of a tile of the weight.
    for (int done = 0; done < kHalfBlocks;) {
      const int count = min(kHalfBlocks - done, kWeightTileBlocks - (first + done) % kWeightTileBlocks);
      const int block = min(first + done, shape.row_blocks - count);
      BulkCopyMulticast(to + done * Stages::kSlabBlockBytes, shape.W(block, slab),
                        count * Stages::kSlabBlockBytes, ring.full + stage, (1 << kClusterBlocks) - 1);
      done += count;
    }
  }
  __device__ void FetchX(int stage, const ClusterTile& tile, int step) const {
    const int token_tile = min(tile.token_pair * kClusterBlocks + rank, shape.token_tiles - 1);
    const std::int64_t slab = tile.segment * shape.segment_slabs + step;
    BulkCopy(ring.X(stage), shape.x + (slab * shape.token_blocks + token_tile * (kTokenTile / 8)) * 512,
             LinearStages<kCols, kBlocks>::kXBytes, ring.full + stage);
  }
};

// One thread.
template <int kCols, int kBlocks>
__device__ __forceinline__ void FeedRing(const LinearPromptShape& shape,
                                         const LinearRing<kCols, kBlocks>& ring, int rank) {
  using Stages = LinearStages<kCols, kBlocks>;
  const StageCopies<kCols, kBlocks> copies{shape, ring, rank};
  const int tiles = ClusterTile::Count(shape);
  int index = blockIdx.x / kClusterBlocks;
  // The ring is empty: its first weights need nobody.
  const ClusterTile first = ClusterTile::At(shape, index);
  const int ahead = min(Stages::kStages, shape.SegmentSlabs(first.segment));
  for (int step = 0; step < ahead; ++step) copies.FetchW(step, first, step);
  WaitForPreviousKernel();
  RingPlace<Stages::kStages> place;
  for (int skip = ahead; index < tiles; index += gridDim.x / kClusterBlocks) {
    const ClusterTile tile = ClusterTile::At(shape, index);
    const int steps = shape.SegmentSlabs(tile.segment);
    for (int step = 0; step < steps; ++step, place.Next()) {
      if (skip > 0) {
        --skip;
      } else {
        WaitBarrier(ring.empty + place.stage, place.parity ^ 1);
        copies.FetchW(place.stage, tile, step);
      }
      copies.FetchX(place.stage, tile, step);
    }
  }
}

// Lanes 0 and 1 tell the two blocks of the cluster that this warp has read the stage.
__device__ __forceinline__ void ReleaseStage(std::uint64_t* empty) {
  const std::uint32_t lane = threadIdx.x % 32;
  if (lane < kClusterBlocks) ArriveCluster(empty, lane);
}

template <int kCols, int kBlocks>
__device__ __forceinline__ void MultiplySegment(const LinearRing<kCols, kBlocks>& ring, int steps, int group,
                                                RingPlace<LinearStages<kCols, kBlocks>::kStages>& place,
                                                float (&sum)[kCols / 2]) {
  constexpr int kBlockBytes = LinearStages<kCols, kBlocks>::kSlabBlockBytes;
  int previous = 0;
  for (int step = 0; step < steps; ++step, place.Next()) {
    WaitBarrier(ring.full + place.stage, place.parity);
    const std::uint64_t x = MatrixDescriptor(ring.X(place.stage) + group * 8 * kBlockBytes, kBlockBytes);
    const std::uint64_t w = MatrixDescriptor(ring.W(place.stage), kBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // two core matrices, 256 bytes, each
      Wgmma<kCols>(sum, x + k * (256 >> 4), w + k * (256 >> 4), step == 0 && k == 0);
    }
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0) ReleaseStage(ring.empty + previous);
    previous = place.stage;
  }
  WgmmaWait<0>();
  ReleaseStage(ring.empty + previous);
}

template <int kCols, int kBlocks, class Epilogue>
__device__ void MultiplyTiles(const LinearPromptShape& shape, const LinearRing<kCols, kBlocks>& ring,
                              std::uint32_t rank, const Epilogue& epilogue) {
  RingPlace<LinearStages<kCols, kBlocks>::kStages> place;
  const int group = threadIdx.x / 128, warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  const int tiles = ClusterTile::Count(shape);
  for (int index = blockIdx.x / kClusterBlocks; index < tiles; index += gridDim.x / kClusterBlocks) {
    const ClusterTile tile = ClusterTile::At(shape, index);
    float sum[kCols / 2];
    MultiplySegment<kCols, kBlocks>(ring, shape.SegmentSlabs(tile.segment), group, place, sum);
    // Not before: blocks placed earlier would crowd on the multiprocessors that are free first.
    if (index + static_cast<int>(gridDim.x) / kClusterBlocks >= tiles) AllowNextKernel();
    const std::uint32_t token =
        (tile.token_pair * kClusterBlocks + rank) * kTokenTile + group * 64 + warp * 16 + lane / 4;
    const std::uint32_t channel = tile.column_tile * kCols + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2; ++half) {
      const auto row = epilogue.Row(tile.segment, token + half * 8);
      if (!row.live) continue;
      StoreRow<kCols / 8>(row, channel, sum + half * 2);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kCols, int kBlocks, class Epilogue>
__global__ void __launch_bounds__(kLinearPromptThreads, kBlocks)
    LinearPromptHopper(const LinearPromptShape shape, const Epilogue epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ char shared[];
  const LinearRing<kCols, kBlocks> ring(shared);
  const std::uint32_t rank = ClusterRank();
  if (threadIdx.x == 0) ring.Init();
  SyncCluster();
  if (threadIdx.x >= 2 * 128) {
    if (ElectOneLane()) FeedRing<kCols, kBlocks>(shape, ring, static_cast<int>(rank));
  } else {
    WaitForPreviousKernel();
    MultiplyTiles<kCols, kBlocks>(shape, ring, rank, epilogue);
  }
  __syncwarp();
  SyncCluster();  // the other block may still write into this one's shared memory
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
