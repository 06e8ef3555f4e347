// The prompt product on Hopper: a persistent kernel of clusters of two blocks, which take 256 tokens. Reading
// the L2 bounds it (25 bytes a cycle and multiprocessor), so the blocks share what they can, each fetching
// one half for both:
//   kTiles 1  a block's tile is 128 tokens x kCols outputs, and the two share the weights
//   kTiles 2  256 tokens x kCols outputs, of which the blocks take two, and share the activations
// Two warps feed a ring of stages (a slab of k each) by bulk copies, two warpgroups multiply, each kTiles
// times 64 tokens. Weights do not wait for the kernel before this one.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_

#include "kernels/base/token_tiles.h"
#include "kernels/device/hopper.cuh"
#include "kernels/device/ring.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_prompt.cuh"

namespace mambad::kernels {

inline constexpr int kClusterBlocks = 2;

// kBlocks: how many blocks share a multiprocessor. One, with a deep ring, is best for a long K; with a short
// K the epilogue counts most, and another block's product hides it.
template <int kCols, int kTiles, int kBlocks>
struct LinearStages {
  // The wide tile's sums take more registers than warps of equal shares have: those of the feeding warpgroup.
  static constexpr bool kMoveRegisters = kTiles == 2;
  static constexpr int kThreads = 2 * 128 + (kMoveRegisters ? 128 : 64);
  static constexpr int kSlabBlockBytes = 8 * 64 * 2;  // 8 rows of a slab
  static constexpr int kXTileBytes = kTokenTile / 8 * kSlabBlockBytes;
  static constexpr int kXBytes = kTiles * kXTileBytes;
  static constexpr int kWBytes = kCols / 8 * kSlabBlockBytes;
  static constexpr int kStageBytes = kXBytes + kWBytes;
  static constexpr int kStages = (kBlocks == 1 ? 224 : 96) * 1024 / kStageBytes;
  static constexpr int kSharedBytes = kStages * kStageBytes + 1024 + 2 * kStages * 8;
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// What a cluster takes. Tiles are taken by groups of token pairs whose activations stay in L2 while all the
// weights pass; within a group tokens run fastest, so that the clusters running together share weights.
template <int kTiles>
struct ClusterTile {
  static constexpr int kGroupPairs = 8;
  int token_pair, segment, column_group;

  __device__ static int Pairs(const LinearPromptShape& shape) { return (shape.token_tiles + 1) / 2; }
  __device__ static int Columns(const LinearPromptShape& shape) {
    return shape.segments * ((shape.column_tiles + kTiles - 1) / kTiles);
  }
  __device__ static int Count(const LinearPromptShape& shape) { return Pairs(shape) * Columns(shape); }
  __device__ static ClusterTile At(const LinearPromptShape& shape, int index) {
    const int columns = Columns(shape);
    const int group = index / (kGroupPairs * columns);
    const int first = group * kGroupPairs;
    const int width = min(kGroupPairs, Pairs(shape) - first);
    const int in_group = index - first * columns;
    const int column = in_group / width;
    return {first + in_group % width, column % shape.segments, column / shape.segments};
  }

  // Of the block `rank` of the cluster. The first token tile; a wide block has the one after it too.
  __device__ int TokenTile(int rank) const { return token_pair * 2 + (kTiles == 1 ? rank : 0); }
  __device__ int ColumnTile(int rank) const { return column_group * kTiles + (kTiles == 2 ? rank : 0); }
};

template <int kCols, int kTiles, int kBlocks>
struct LinearRing {
  using Stages = LinearStages<kCols, kTiles, kBlocks>;
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
      InitBarrier(full + i, 2);                    // the two feeders
      InitBarrier(empty + i, kClusterBlocks * 8);  // every multiplying warp of the cluster
    }
    FenceBarrierInit();
  }
  __device__ char* X(int stage) const { return data + stage * Stages::kStageBytes; }
  __device__ char* W(int stage) const { return X(stage) + Stages::kXBytes; }
};

// The copies that fill a stage. A tile past the end repeats the last one and is not stored, and so do rows
// past the padded weight.
template <int kCols, int kTiles, int kBlocks>
struct StageCopies {
  using Stages = LinearStages<kCols, kTiles, kBlocks>;
  static constexpr std::uint16_t kBoth = (1 << kClusterBlocks) - 1;
  const LinearPromptShape& shape;
  const LinearRing<kCols, kTiles, kBlocks>& ring;
  int rank;

  __device__ void FetchW(int stage, const ClusterTile<kTiles>& tile, int step) const {
    constexpr bool kShared = kTiles == 1;
    constexpr int kCount = kCols / 8 / (kShared ? kClusterBlocks : 1);
    ArriveExpectBytes(ring.full + stage, Stages::kWBytes);
    const int slab = tile.segment * shape.segment_slabs + step;
    const int part = kShared ? rank * kCount : 0;
    const int first = tile.ColumnTile(rank) * (kCols / 8) + part;
    char* const to = ring.W(stage) + part * Stages::kSlabBlockBytes;
    // At most two pieces: they may reach over the end of a tile of the weight.
    for (int done = 0; done < kCount;) {
      const int count = min(kCount - done, kTileBlocks - (first + done) % kTileBlocks);
      const int block = min(first + done, shape.row_blocks - count);
      Copy<kShared>(to + done * Stages::kSlabBlockBytes, shape.W(block, slab),
                    count * Stages::kSlabBlockBytes, stage);
      done += count;
    }
  }
  __device__ void FetchX(int stage, const ClusterTile<kTiles>& tile, int step) const {
    ArriveExpectBytes(ring.full + stage, Stages::kXBytes);
    const int token_tile = min(tile.token_pair * 2 + rank, shape.token_tiles - 1);
    const std::int64_t slab = tile.segment * shape.segment_slabs + step;
    Copy<kTiles == 2>(ring.X(stage) + (kTiles == 2 ? rank * Stages::kXTileBytes : 0),
                      shape.x + (slab * shape.token_blocks + token_tile * (kTokenTile / 8)) * 512,
                      Stages::kXTileBytes, stage);
  }

 private:
  template <bool kShared>
  __device__ __forceinline__ void Copy(void* to, const void* from, int bytes, int stage) const {
    if constexpr (kShared) {
      BulkCopyMulticast(to, from, bytes, ring.full + stage, kBoth);
    } else {
      BulkCopy(to, from, bytes, ring.full + stage);
    }
  }
};

// All stages of this block's tiles, in order; the first `ahead` of them are fetched already. One thread.
template <int kCols, int kTiles, int kBlocks, class Fetch>
__device__ __forceinline__ void FeedTiles(const LinearPromptShape& shape,
                                          const LinearRing<kCols, kTiles, kBlocks>& ring, int ahead,
                                          const Fetch& fetch) {
  using Tile = ClusterTile<kTiles>;
  RingPlace<LinearStages<kCols, kTiles, kBlocks>::kStages> place;
  const int tiles = Tile::Count(shape);
  for (int index = blockIdx.x / kClusterBlocks; index < tiles; index += gridDim.x / kClusterBlocks) {
    const Tile tile = Tile::At(shape, index);
    const int steps = shape.SegmentSlabs(tile.segment);
    for (int step = 0; step < steps; ++step, place.Next()) {
      if (ahead > 0) {
        --ahead;
        continue;
      }
      WaitBarrier(ring.empty + place.stage, place.parity ^ 1);
      fetch(place.stage, tile, step);
    }
  }
}

// A warp for each operand: issuing a copy takes longer than multiplying a part of a stage.
template <int kCols, int kTiles, int kBlocks>
__device__ __forceinline__ void FeedRing(const LinearPromptShape& shape,
                                         const LinearRing<kCols, kTiles, kBlocks>& ring, int rank) {
  using Stages = LinearStages<kCols, kTiles, kBlocks>;
  using Tile = ClusterTile<kTiles>;
  const StageCopies<kCols, kTiles, kBlocks> copies{shape, ring, rank};
  const int warp = static_cast<int>(threadIdx.x - 2 * 128) / 32;
  if (warp == 0 && ElectOneLane()) {
    // The ring is empty: its first weights need nobody.
    const Tile first = Tile::At(shape, blockIdx.x / kClusterBlocks);
    const int ahead = min(Stages::kStages, shape.SegmentSlabs(first.segment));
    for (int step = 0; step < ahead; ++step) copies.FetchW(step, first, step);
    FeedTiles(shape, ring, ahead,
              [&](int stage, const Tile& tile, int step) { copies.FetchW(stage, tile, step); });
  } else if (warp == 1 && ElectOneLane()) {
    WaitForPreviousKernel();
    FeedTiles(shape, ring, 0,
              [&](int stage, const Tile& tile, int step) { copies.FetchX(stage, tile, step); });
  }
}

// A warpgroup's kTiles times 64 tokens, which follow each other.
template <int kCols, int kTiles, int kBlocks>
__device__ __forceinline__ void MultiplySegment(
    const LinearRing<kCols, kTiles, kBlocks>& ring, int steps, int group,
    RingPlace<LinearStages<kCols, kTiles, kBlocks>::kStages>& place, float (&sum)[kTiles][kCols / 2]) {
  constexpr int kBlockBytes = LinearStages<kCols, kTiles, kBlocks>::kSlabBlockBytes;
  int previous = 0;
  for (int step = 0; step < steps; ++step, place.Next()) {
    WaitBarrier(ring.full + place.stage, place.parity);
    const std::uint64_t x =
        MatrixDescriptor(ring.X(place.stage) + group * kTiles * 8 * kBlockBytes, kBlockBytes);
    const std::uint64_t w = MatrixDescriptor(ring.W(place.stage), kBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int k = 0; k < 4; ++k) {  // two core matrices, 256 bytes, each
#pragma unroll
      for (int tile = 0; tile < kTiles; ++tile) {
        Wgmma<kCols>(sum[tile], x + ((tile * 8 * kBlockBytes + k * 256) >> 4), w + k * (256 >> 4),
                     step == 0 && k == 0);
      }
    }
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0) ReleaseStage<kClusterBlocks>(ring.empty + previous);
    previous = place.stage;
  }
  WgmmaWait<0>();
  ReleaseStage<kClusterBlocks>(ring.empty + previous);
}

template <int kCols, int kTiles, int kBlocks, class Epilogue>
__device__ __forceinline__ void MultiplyTiles(const LinearPromptShape& shape,
                                              const LinearRing<kCols, kTiles, kBlocks>& ring, int rank,
                                              const Epilogue& epilogue) {
  using Tile = ClusterTile<kTiles>;
  RingPlace<LinearStages<kCols, kTiles, kBlocks>::kStages> place;
  const int group = threadIdx.x / 128, warp = threadIdx.x % 128 / 32, lane = threadIdx.x % 32;
  const int tiles = Tile::Count(shape);
  for (int index = blockIdx.x / kClusterBlocks; index < tiles; index += gridDim.x / kClusterBlocks) {
    const Tile tile = Tile::At(shape, index);
    if constexpr (requires { epilogue.Prefetch(0, 0, 0); }) {
      for (int row = threadIdx.x; row < kTiles * kTokenTile; row += 256) {
        epilogue.Prefetch(tile.TokenTile(rank) * kTokenTile + row, tile.ColumnTile(rank) * kCols, kCols);
      }
    }
    float sum[kTiles][kCols / 2];
    MultiplySegment(ring, shape.SegmentSlabs(tile.segment), group, place, sum);
    // Not before: blocks placed earlier would crowd on the multiprocessors that are free first.
    if (index + static_cast<int>(gridDim.x) / kClusterBlocks >= tiles) AllowNextKernel();
    const std::uint32_t token =
        tile.TokenTile(rank) * kTokenTile + group * kTiles * 64 + warp * 16 + lane / 4;
    const std::uint32_t channel = tile.ColumnTile(rank) * kCols + lane % 4 * 2;
#pragma unroll
    for (int half = 0; half < 2 * kTiles; ++half) {
      const auto row = epilogue.Row(tile.segment, token + half / 2 * 64 + half % 2 * 8);
      if (!row.live) continue;
      StoreRow<kCols / 8>(row, channel, sum[half / 2] + half % 2 * 2);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <int kCols, int kTiles, int kBlocks, class Epilogue>
__global__ void __launch_bounds__(LinearStages<kCols, kTiles, kBlocks>::kThreads, kBlocks)
    LinearPromptHopper(const LinearPromptShape shape, const Epilogue epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr bool kMoveRegisters = LinearStages<kCols, kTiles, kBlocks>::kMoveRegisters;
  extern __shared__ char shared[];
  const LinearRing<kCols, kTiles, kBlocks> ring(shared);
  const int rank = static_cast<int>(ClusterRank());
  if (threadIdx.x == 0) ring.Init();
  SyncCluster();
  if (threadIdx.x >= 2 * 128) {
    if constexpr (kMoveRegisters) ReleaseRegisters<40>();
    FeedRing(shape, ring, rank);
  } else {
    if constexpr (kMoveRegisters) TakeRegisters<232>();
    WaitForPreviousKernel();
    MultiplyTiles(shape, ring, rank, epilogue);
  }
  __syncwarp();
  SyncCluster();  // the other block may still write into this one's shared memory
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
