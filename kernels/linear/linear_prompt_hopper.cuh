// The prompt product on Hopper: a persistent kernel of clusters of two blocks. Reading the L2 bounds it (25
// bytes a cycle and multiprocessor), so the blocks of a cluster share one operand, each fetching one half for
// both. A block's tile is kTiles times 128 tokens x kCols outputs; the two share
//   kShared kWeights      what they multiply different tokens with: best of 128 x kCols
//   kShared kActivations  what they find different outputs of: 256 x kCols, and 128 x few outputs where
//                         tokens are few and clusters would be
// Two warps feed a ring of stages by bulk copies: a slab of k each, and behind a tile's slabs what its groups
// of columns are added to, if the epilogue adds. Two warpgroups multiply, each kTiles times 64 tokens.
// Weights do not wait for the kernel before this one. Two more warps find the tokens' scales meanwhile, if
// the epilogue takes any.
#ifndef MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
#define MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_

#include "kernels/base/token_tiles.h"
#include "kernels/device/hopper.cuh"
#include "kernels/device/ring.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/linear/gpu_layout.h"
#include "kernels/linear/linear_prompt.cuh"
#include "kernels/linear/linear_prompt_epilogue.cuh"

namespace mambad::kernels {

inline constexpr int kClusterBlocks = 2;

enum class PromptShared { kWeights, kActivations };

// kBlocks: how many blocks share a multiprocessor. One, with a deep ring, is best for a long K; with a short
// K the epilogue counts most, and another block's product hides it.
// kBlocksOfTile: token blocks of a tile. Fewer than all, where a pass has no more, leave the ring more
// stages: the way of a stage from its request to its release, by their number, is what a step takes then.
template <int kColumns, int kTokenTiles, PromptShared kSharedOperand, int kBlocks,
          int kBlocksOfTile = kTokenTile / 8>
struct PromptProduct {
  static constexpr int kCols = kColumns;
  static constexpr int kTiles = kTokenTiles;
  static constexpr bool kSharesX = kSharedOperand == PromptShared::kActivations;
  // Of a cluster.
  static constexpr int kClusterTokens = kSharesX ? kTiles : kTiles * kClusterBlocks;  // token tiles
  static constexpr int kClusterColumns = kSharesX ? kClusterBlocks : 1;               // column tiles
  static constexpr int kBlocksOfSm = kBlocks;

  static constexpr int kSums = kTiles * kCols / 2;  // of a thread
  // The sums of wide tiles take more registers than warps of equal shares have: those of the feeding
  // warpgroup.
  static constexpr bool kMoveRegisters = kSums >= 128;
  static constexpr int kThreads = 2 * 128 + (kMoveRegisters ? 128 : 64);
  static constexpr int kSlabBlockBytes = 8 * 64 * 2;  // 8 rows of a slab
  static constexpr int kTokenBlocks = kBlocksOfTile;
  static constexpr int kGroups = kTokenBlocks > 8 ? 2 : 1;  // warpgroups that multiply, 64 tokens each
  static constexpr int kXTileBytes = kTokenBlocks * kSlabBlockBytes;
  static constexpr int kXBytes = kTiles * kXTileBytes;
  static constexpr int kWBytes = kCols / 8 * kSlabBlockBytes;
  static constexpr int kStageBytes = kXBytes + kWBytes;
  static constexpr int kStages = (kBlocks == 1 ? 224 : 96) * 1024 / kStageBytes;
  static constexpr int kScaleBytes = kTiles * static_cast<int>(kTokenTile) * 4;
  // The scales of a tile's tokens, the ring, its alignment, barriers.
  static constexpr int kSharedBytes = kScaleBytes + kStages * kStageBytes + 1024 + 2 * kStages * 8;
};

inline constexpr int kScaleThreads = 64;
template <class Product, class Epilogue>
constexpr int PromptThreads() {
  return Epilogue::kScales ? 2 * 128 + 64 + kScaleThreads : Product::kThreads;
}

// What a cluster takes. Tiles are taken by groups of 16 token tiles whose activations stay in L2 while all
// the weights pass; within a group tokens run fastest, so that the clusters running together share weights.
template <class Product>
struct ClusterTile {
  static constexpr int kGroupWidth = 16 / Product::kClusterTokens;
  int token_group, segment, column_group;

  static __host__ __device__ int Across(const LinearPromptShape& shape) {
    return (shape.token_tiles + Product::kClusterTokens - 1) / Product::kClusterTokens;
  }
  static __host__ __device__ int Columns(const LinearPromptShape& shape) {
    return shape.segments * ((shape.column_tiles + Product::kClusterColumns - 1) / Product::kClusterColumns);
  }
  static __host__ __device__ int Count(const LinearPromptShape& shape) {
    return Across(shape) * Columns(shape);
  }
  __device__ static ClusterTile At(const LinearPromptShape& shape, int index) {
    const int columns = Columns(shape);
    const int group = index / (kGroupWidth * columns);
    const int first = group * kGroupWidth;
    const int width = min(kGroupWidth, Across(shape) - first);
    const int in_group = index - first * columns;
    const int column = in_group / width;
    return {first + in_group % width, column % shape.segments, column / shape.segments};
  }

  // Of the block `rank` of the cluster. The first token tile; a wide block has the one after it too.
  __device__ int TokenTile(int rank) const {
    return token_group * Product::kClusterTokens + (Product::kSharesX ? 0 : rank * Product::kTiles);
  }
  __device__ int ColumnTile(int rank) const {
    return column_group * Product::kClusterColumns + (Product::kSharesX ? rank : 0);
  }
};

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)

// Behind the scales.
template <class Product>
struct LinearRing {
  char* data;
  std::uint64_t* full;
  std::uint64_t* empty;

  __device__ explicit LinearRing(char* shared) {
    data = shared + Product::kScaleBytes;
    data += (1024 - SharedAddress(data) % 1024) % 1024;
    full = reinterpret_cast<std::uint64_t*>(data + Product::kStages * Product::kStageBytes);
    empty = full + Product::kStages;
  }
  __device__ void Init() const {
    for (int i = 0; i < Product::kStages; ++i) {
      InitBarrier(full + i, 2);                                       // the two feeders
      InitBarrier(empty + i, kClusterBlocks * 4 * Product::kGroups);  // every multiplying warp of the cluster
    }
    FenceBarrierInit();
  }
  __device__ char* X(int stage) const { return data + stage * Product::kStageBytes; }
  // In place of X, behind a tile's product: what a group of its columns is added to.
  __device__ char* Old(int stage) const { return X(stage); }
  __device__ char* W(int stage) const { return X(stage) + Product::kXBytes; }
};

// The copies that fill a stage. A tile past the end repeats the last one and is not stored, and so do rows
// past the padded weight.
template <class Product>
struct StageCopies {
  static constexpr std::uint16_t kBoth = (1 << kClusterBlocks) - 1;
  const LinearPromptShape& shape;
  const LinearRing<Product>& ring;
  int rank;

  __device__ void FetchW(int stage, const ClusterTile<Product>& tile, int step) const {
    constexpr bool kShared = !Product::kSharesX;
    constexpr int kCount = Product::kCols / 8 / (kShared ? kClusterBlocks : 1);
    ArriveExpectBytes(ring.full + stage, Product::kWBytes);
    const int slab = tile.segment * shape.segment_slabs + step;
    const int part = kShared ? rank * kCount : 0;
    const int first = tile.ColumnTile(rank) * (Product::kCols / 8) + part;
    char* const to = ring.W(stage) + part * Product::kSlabBlockBytes;
    // At most two pieces: they may reach over the end of a tile of the weight.
    for (int done = 0; done < kCount;) {
      const int count = min(kCount - done, kTileBlocks - (first + done) % kTileBlocks);
      const int block = min(first + done, shape.row_blocks - count);
      Copy<kShared>(to + done * Product::kSlabBlockBytes, shape.W(block, slab),
                    count * Product::kSlabBlockBytes, stage);
      done += count;
    }
  }
  __device__ void FetchX(int stage, const ClusterTile<Product>& tile, int step) const {
    constexpr bool kShared = Product::kSharesX;
    static_assert(kShared || Product::kTiles == 1);
    constexpr int kCount = Product::kTiles * Product::kTokenBlocks / (kShared ? kClusterBlocks : 1);
    ArriveExpectBytes(ring.full + stage, Product::kXBytes);
    const int part = kShared ? rank * kCount : 0;
    const int block = min(FirstBlock(tile) + part, EndBlock() - kCount);
    const std::int64_t slab = tile.segment * shape.segment_slabs + step;
    Copy<kShared>(ring.X(stage) + part * Product::kSlabBlockBytes,
                  shape.x + (slab * shape.token_blocks + block) * 512, kCount * Product::kSlabBlockBytes,
                  stage);
  }
  // What a group of columns is added to: fp32 token tiles, of each token block the group's 8x8 blocks.
  // Nothing where the group lies past the last slab.
  __device__ void FetchOld(int stage, const ClusterTile<Product>& tile, int group, const float* tiles,
                           std::uint32_t channels) const {
    constexpr int kBytes = kGroupBlocks * 64 * 4;
    constexpr int kCount = Product::kTiles * Product::kTokenBlocks;
    constexpr std::uint32_t kSlab = kSlabChannels;
    static_assert(kCount * kBytes == Product::kXBytes);
    const std::uint32_t channel = tile.ColumnTile(rank) * Product::kCols + group * kGroupBlocks * 8;
    const bool exists = channel < (channels + kSlab - 1) / kSlab * kSlab;
    ArriveExpectBytes(ring.full + stage, exists ? Product::kXBytes : 0);
    if (!exists) return;
    const float* const from = tiles + GroupOffset(shape.token_blocks, channel);
#pragma unroll 1
    for (int i = 0; i < kCount; ++i) {
      const int block = min(FirstBlock(tile) + i, EndBlock() - 1);  // there may be no second token tile
      BulkCopy(ring.Old(stage) + i * kBytes, from + block * std::int64_t{512}, kBytes, ring.full + stage);
    }
  }

 private:
  static constexpr int kBlocks = kTokenTile / 8;  // of a token tile
  __device__ __forceinline__ int FirstBlock(const ClusterTile<Product>& tile) const {
    return tile.TokenTile(rank) * kBlocks;
  }
  __device__ __forceinline__ int EndBlock() const { return shape.token_tiles * kBlocks; }
  template <bool kShared>
  __device__ __forceinline__ void Copy(void* to, const void* from, int bytes, int stage) const {
    if constexpr (kShared) {
      BulkCopyMulticast(to, from, bytes, ring.full + stage, kBoth);
    } else {
      BulkCopy(to, from, bytes, ring.full + stage);
    }
  }
};

// All stages of this block's tiles, in order: the slabs of k, of which the first `ahead` are fetched already,
// and behind them those of what the epilogue adds to, by groups of columns. One thread of each feeder.
template <class Product, class Epilogue, class Fetch, class FetchOld>
__device__ __forceinline__ void FeedTiles(const LinearPromptShape& shape, const LinearRing<Product>& ring,
                                          int ahead, const Fetch& fetch, const FetchOld& fetch_old) {
  using Tile = ClusterTile<Product>;
  RingPlace<Product::kStages> place;
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
    for (int group = 0; Epilogue::kAdds && group < Product::kCols / (kGroupBlocks * 8);
         ++group, place.Next()) {
      WaitBarrier(ring.empty + place.stage, place.parity ^ 1);
      fetch_old(place.stage, tile, group);
    }
  }
  AwaitReleases(ring.empty, place);
}

// A warp for each operand: issuing a copy takes longer than multiplying a part of a stage.
template <class Product, class Epilogue>
__device__ __forceinline__ void FeedRing(const LinearPromptShape& shape, const LinearRing<Product>& ring,
                                         int rank, const Epilogue& epilogue) {
  using Tile = ClusterTile<Product>;
  const StageCopies<Product> copies{shape, ring, rank};
  const int warp = static_cast<int>(threadIdx.x - 2 * 128) / 32;
  if (warp == 0 && ElectOneLane()) {
    // The ring is empty: its first weights need nobody.
    const Tile first = Tile::At(shape, blockIdx.x / kClusterBlocks);
    const int ahead = min(Product::kStages, shape.SegmentSlabs(first.segment));
    for (int step = 0; step < ahead; ++step) copies.FetchW(step, first, step);
    FeedTiles<Product, Epilogue>(
        shape, ring, ahead, [&](int stage, const Tile& tile, int step) { copies.FetchW(stage, tile, step); },
        [&](int stage, const Tile&, int) { ArriveExpectBytes(ring.full + stage, 0); });
  } else if (warp == 1 && ElectOneLane()) {
    WaitForPreviousKernel();
    FeedTiles<Product, Epilogue>(
        shape, ring, 0, [&](int stage, const Tile& tile, int step) { copies.FetchX(stage, tile, step); },
        [&](int stage, const Tile& tile, int group) {
          if constexpr (Epilogue::kAdds)
            copies.FetchOld(stage, tile, group, epilogue.tiles, epilogue.channels);
        });
  }
}

// The row of a tile that is the first of this lane's.
template <class Product>
__device__ __forceinline__ int FirstRow(int thread) {
  return thread / 128 * Product::kTiles * 64 + thread % 128 / 32 * 16 + thread % 32 / 4;
}

// Between the threads that find scales and those that multiply: named barriers, at which one side waits.
struct ScalesFound {
  static __device__ __forceinline__ void Arrive() {
    DelayAtRandom<DelayAt::kBarrier, 2>();
    asm volatile("bar.arrive 1, 320;" ::: "memory");
  }
  static __device__ __forceinline__ void Wait() { asm volatile("bar.sync 1, 320;" ::: "memory"); }
};
struct ScalesTaken {
  static __device__ __forceinline__ void Arrive() {
    DelayAtRandom<DelayAt::kBarrier, 2>();
    asm volatile("bar.arrive 2, 320;" ::: "memory");
  }
  static __device__ __forceinline__ void Wait() { asm volatile("bar.sync 2, 320;" ::: "memory"); }
};
static_assert(2 * 128 + kScaleThreads == 320);

// Whether a cluster's tile with this index has other tokens than the one before.
template <class Product>
__device__ __forceinline__ bool HasOtherTokens(const LinearPromptShape& shape, int index) {
  using Tile = ClusterTile<Product>;
  const int before = index - static_cast<int>(gridDim.x / kClusterBlocks);
  return before < 0 || Tile::At(shape, before).token_group != Tile::At(shape, index).token_group;
}

// Of the tile's tokens: first in shared memory, where they need no register.
__device__ __forceinline__ float* SharedScales() {
  extern __shared__ char shared[];
  return reinterpret_cast<float*>(shared);
}

// The scales of the tokens of all this block's tiles, in order. By kScaleThreads threads.
template <class Product>
__device__ __forceinline__ void FindScales(const LinearPromptShape& shape, const TokenNorm& norm, int rank) {
  using Tile = ClusterTile<Product>;
  WaitForPreviousKernel();
  constexpr int kTokens = kTokenTile, kOfThread = Product::kTiles * kTokens / kScaleThreads;
  const int tiles = Tile::Count(shape), last = shape.token_tiles * kTokens - kOfThread;
  const int row = static_cast<int>(threadIdx.x % kScaleThreads) * kOfThread;
  for (int index = blockIdx.x / kClusterBlocks; index < tiles; index += gridDim.x / kClusterBlocks) {
    if (!HasOtherTokens<Product>(shape, index)) continue;
    if (index >= static_cast<int>(gridDim.x / kClusterBlocks)) ScalesTaken::Wait();
    float scales[kOfThread];
    norm.Scales(min(Tile::At(shape, index).TokenTile(rank) * kTokens + row, last), scales);
#pragma unroll
    for (int i = 0; i < kOfThread; ++i) SharedScales()[row + i] = scales[i];
    ScalesFound::Arrive();
  }
}

template <class Product, int kRows>
__device__ __forceinline__ RowScales<kRows> TakeScales() {
  int thread;  // read anew: wide tiles leave no register for the row
  asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
  RowScales<kRows> scales;
#pragma unroll
  for (int r = 0; r < kRows; ++r) scales.of[r] = SharedScales()[FirstRow<Product>(thread) + RowToken(r)];
  return scales;
}

// What a tile is added to, as it comes through the ring. By all lanes of a warp.
template <class Product>
struct OldInRing {
  const LinearRing<Product>& ring;
  RingPlace<Product::kStages>& place;
  int lane_bytes;  // of row 0, in its 8x8 blocks' place

  __device__ __forceinline__ OldInRing(const LinearRing<Product>& of, RingPlace<Product::kStages>& at)
      : ring(of), place(at) {
    const int thread = threadIdx.x;
    lane_bytes = FirstRow<Product>(thread) / 8 * (kGroupBlocks * 256) + thread % 32 * 8;
  }
  __device__ __forceinline__ void Begin() const { WaitBarrier(ring.full + place.stage, place.parity); }
  template <bool kWhole, class Place>
  __device__ __forceinline__ OldSums Load(const Place&, int, int r) const {
    const char* const from = ring.Old(place.stage) + lane_bytes + RowToken(r) / 8 * (kGroupBlocks * 256);
    OldSums old;
#pragma unroll
    for (int b = 0; b < kGroupBlocks; ++b) old.of[b] = *reinterpret_cast<const float2*>(from + b * 256);
    return old;
  }
  __device__ __forceinline__ void End() const {
    SharedFence();  // the next copy to this place is not to pass these loads
    __syncwarp();
    ReleaseStage<kClusterBlocks>(ring.empty + place.stage);
    place.Next();
  }
};

// A warpgroup's kTiles times 64 tokens, which follow each other.
template <class Product>
__device__ __forceinline__ void MultiplySegment(const LinearRing<Product>& ring, int steps, int group,
                                                RingPlace<Product::kStages>& place,
                                                float (&sum)[Product::kTiles][Product::kCols / 2]) {
  constexpr int kTiles = Product::kTiles, kCols = Product::kCols, kBlockBytes = Product::kSlabBlockBytes;
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

template <class Product, class Epilogue>
__device__ __forceinline__ void MultiplyTiles(const LinearPromptShape& shape, const LinearRing<Product>& ring,
                                              int rank, const Epilogue& epilogue) {
  using Tile = ClusterTile<Product>;
  constexpr int kTiles = Product::kTiles, kCols = Product::kCols;
  RingPlace<Product::kStages> place;
  const int group = threadIdx.x / 128;
  const int tiles = Tile::Count(shape);
  const int stride = static_cast<int>(gridDim.x / kClusterBlocks);
  bool more = true;
  for (int index = blockIdx.x / kClusterBlocks; more; index += stride) {
    more = index + stride < tiles;
    const Tile tile = Tile::At(shape, index);
    if constexpr (requires { epilogue.Prefetch(0, 0, 0); }) {
      for (int i = threadIdx.x; i < kTiles * kTokenTile; i += 256) {
        epilogue.Prefetch(tile.TokenTile(rank) * kTokenTile + i, tile.ColumnTile(rank) * kCols, kCols);
      }
    }
    SumStores<2 * kTiles, kCols / 8, Epilogue> stores(
        epilogue, tile.segment, tile.TokenTile(rank) * kTokenTile + FirstRow<Product>(threadIdx.x),
        tile.ColumnTile(rank) * kCols + threadIdx.x % 4 * 2);
    float sum[kTiles][kCols / 2];
    if (group < Product::kGroups) MultiplySegment(ring, shape.SegmentSlabs(tile.segment), group, place, sum);
    // Not before: blocks placed earlier would crowd on the multiprocessors that are free first. And never
    // before the wait: convolution and scan read places, windows and chunks ahead of theirs.
    if (!more) AllowNextKernel();
    if constexpr (Epilogue::kScales) {
      if (HasOtherTokens<Product>(shape, index)) ScalesFound::Wait();
      const auto scales = TakeScales<Product, 2 * kTiles>();
      if (more && HasOtherTokens<Product>(shape, index + stride)) ScalesTaken::Arrive();
      stores.Store(sum, scales);
    } else if constexpr (Epilogue::kAdds) {
      if (group < Product::kGroups) stores.Store(sum, OldInRing<Product>(ring, place));
    } else {
      stores.Store(sum);
    }
  }
}

#endif  // __CUDA_ARCH_FEAT_SM90_ALL

template <class Product, class Epilogue>
__global__ void __launch_bounds__((PromptThreads<Product, Epilogue>()), Product::kBlocksOfSm)
    LinearPromptHopper(const LinearPromptShape shape, const Epilogue epilogue) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  constexpr bool kMoveRegisters = Product::kMoveRegisters;
  extern __shared__ char shared[];
  const LinearRing<Product> ring(shared);
  const int rank = static_cast<int>(ClusterRank());
  if (threadIdx.x == 0) ring.Init();
  ClusterArriveRelaxed();
  ClusterWait();
  if (threadIdx.x >= 2 * 128) {
    if constexpr (kMoveRegisters) ReleaseRegisters<40>();
    if (threadIdx.x < 2 * 128 + 64) {
      FeedRing(shape, ring, rank, epilogue);
    } else if constexpr (Epilogue::kScales) {
      FindScales<Product>(shape, epilogue.norm, rank);
    }
  } else {
    if constexpr (kMoveRegisters) TakeRegisters<232>();
    WaitForPreviousKernel();
    MultiplyTiles(shape, ring, rank, epilogue);
  }
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_LINEAR_LINEAR_PROMPT_HOPPER_CUH_
