// The main loop of the wide product: tiles of kRows rows of W (the N side of wgmma) by kColumns rows of x (64
// a warpgroup, the M side), chunk after chunk of both through a ring in shared memory that bulk copies fill.
// One thread feeds each stream: a part of W, or x. Those of W do not wait for the previous kernel, and all
// run ahead into the next tile while the warpgroups complete this one.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WIDE_RING_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WIDE_RING_CUH_

#include <cstdint>

#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/wgmma.cuh"

namespace mambad::kernels {

// The rows of W fall into kParts equal parts, of which a tile takes the same rows each.
template <int kRowsOfW, int kPartsOfW>
struct WideShape {
  static constexpr int kRows = kRowsOfW;
  static constexpr int kParts = kPartsOfW;
  static constexpr int kPartRows = kRows / kParts;
  static constexpr int kColumns = 128;
  static constexpr int kSharers = 2;            // blocks of a cluster, which need the same x
  static constexpr int kWarps = kColumns / 16;  // that multiply
  static constexpr int kThreads =
      kWarps * 32 + 128;  // and a warpgroup that feeds, whole for its registers' sake
  static constexpr int kFeeders = kParts + 1;
  static constexpr int kXBytes = kColumns * kChunkK * 2;
  static constexpr int kStageBytes = kXBytes + kRows * kChunkK * 2;
  static constexpr int kSumStride = kRows + 8;  // floats between rows of x in a tile's sums
  static constexpr int kSumBytes = kColumns * kSumStride * 4;
  static constexpr int kMostBytes = 227 * 1024;  // a block's shared memory on Hopper
  static constexpr int kStages = (kMostBytes - kSumBytes - kColumns * 4) / (kStageBytes + 16);
  static constexpr int kRingBytes = kStages * kStageBytes;
  static constexpr int kScalesAt = kRingBytes + kSumBytes;
  static constexpr int kBarriersAt = kScalesAt + kColumns * 4;
  static constexpr int kSharedBytes = kBarriersAt + kStages * 16;
  static_assert(kPartRows % kCore == 0 && kFeeders < 4 && kStages >= 4);
};

// A tile of the product. Tiles of x run fastest: clusters that run together share weights in L2.
template <class Shape>
struct WideTile {
  int row_tile;
  int column0;  // the first row of x
  int columns;

  // How many groups of kSharers tiles there are.
  __host__ __device__ static int Groups(const ProductArgs& args) {
    const int row_tiles = (args.rows / Shape::kParts + Shape::kPartRows - 1) / Shape::kPartRows;
    return (row_tiles + Shape::kSharers - 1) / Shape::kSharers * ColumnTiles(args);
  }
  __device__ static WideTile At(const ProductArgs& args, int group, int rank) {
    const int column0 = group % ColumnTiles(args) * Shape::kColumns;
    return {group / ColumnTiles(args) * Shape::kSharers + rank, column0,
            min(Shape::kColumns, args.columns - column0)};
  }
  // The row of W that is row `row` of the tile; `inside`: whether there is one.
  __device__ int Row(const ProductArgs& args, int row, bool& inside) const {
    const int in_part = row_tile * Shape::kPartRows + row % Shape::kPartRows;
    inside = in_part < args.rows / Shape::kParts;
    return row / Shape::kPartRows * (args.rows / Shape::kParts) + in_part;
  }

 private:
  __host__ __device__ static int ColumnTiles(const ProductArgs& args) {
    return (args.columns + Shape::kColumns - 1) / Shape::kColumns;
  }
};

// Which tiles a block takes.
struct WideWork {
  int rank;  // among the sharers of x
  int group, group_step, groups;
};

// Where a feeder or a multiplying warp stands in the ring.
template <int kStages>
struct RingPlace {
  int stage = 0;
  unsigned parity = 0;

  __device__ __forceinline__ void Next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

template <class Shape>
struct WideRing {
  unsigned char* data;
  std::uint64_t* full;   // every feeder arrives, and a stage's bytes
  std::uint64_t* empty;  // every multiplying warp of the sharers arrives

  __device__ explicit WideRing(unsigned char* shared)
      : data(shared),
        full(reinterpret_cast<std::uint64_t*>(shared + Shape::kBarriersAt)),
        empty(full + Shape::kStages) {}
  __device__ void Init() const {
    for (int i = 0; i < Shape::kStages; ++i) {
      hopper::BarrierInit(full + i, Shape::kFeeders);
      hopper::BarrierInit(empty + i, Shape::kSharers * Shape::kWarps);
    }
    hopper::BarrierInitFence();
  }
  __device__ unsigned char* X(int stage) const { return data + stage * Shape::kStageBytes; }
  __device__ unsigned char* Weights(int stage) const { return X(stage) + Shape::kXBytes; }
  __device__ float* Sums() const { return reinterpret_cast<float*>(data + Shape::kRingBytes); }
  __device__ float* Scales() const { return reinterpret_cast<float*>(data + Shape::kScalesAt); }

  // By a multiplying warp that has read a stage.
  __device__ void Release(int stage) const {
    const int lane = threadIdx.x % 32;
    if (lane < Shape::kSharers) hopper::BarrierArriveInRank(empty + stage, lane);
  }
};

// One thread: part `part` of the weights.
template <class Shape>
__device__ __forceinline__ void FeedWeights(const ProductArgs& args, const WideRing<Shape>& ring,
                                            const WideWork& work, int part) {
  constexpr int kBlocks = Shape::kPartRows / kCore, kTileBlocks = kTileRows / kCore;
  const int row_blocks = static_cast<int>(RoundUp(args.rows, kTileRows)) / kCore;
  RingPlace<Shape::kStages> place;
  for (int group = work.group; group < work.groups; group += work.group_step) {
    // Two pieces where the part reaches over the end of a tile of the packed weight. Row blocks past the last
    // of W repeat others and are not stored.
    const int first = part * (args.rows / Shape::kParts / kCore) +
                      WideTile<Shape>::At(args, group, work.rank).row_tile * kBlocks;
    const int count = min(kBlocks, kTileBlocks - first % kTileBlocks);
    const auto piece = [&](int block, int blocks) {
      return args.weights + WeightIndex(min(block, row_blocks - blocks) * kCore, 0, args.k_pad);
    };
    const std::uint16_t* from = piece(first, count);
    const std::uint16_t* rest = piece(first + count, kBlocks - count);
    for (int chunk = 0; chunk < args.chunks; ++chunk, place.Next()) {
      hopper::BarrierWait(ring.empty + place.stage, place.parity ^ 1);
      std::uint64_t* const full = ring.full + place.stage;
      unsigned char* const to = ring.Weights(place.stage) + part * kBlocks * kRowBlockBytes;
      hopper::BarrierExpect(full, kBlocks * kRowBlockBytes);
      hopper::BulkCopy(to, from, count * kRowBlockBytes, full);
      if (count < kBlocks)
        hopper::BulkCopy(to + count * kRowBlockBytes, rest, (kBlocks - count) * kRowBlockBytes, full);
      from += kTileRows * kChunkK;
      rest += kTileRows * kChunkK;
    }
  }
}

// One thread: this block's share of the rows of x that exist, for all sharers.
template <class Shape>
__device__ __forceinline__ void FeedX(const ProductArgs& args, const WideRing<Shape>& ring,
                                      const WideWork& work) {
  hopper::WaitForPrevious();
  RingPlace<Shape::kStages> place;
  for (int group = work.group; group < work.groups; group += work.group_step) {
    const auto tile = WideTile<Shape>::At(args, group, work.rank);
    const int blocks = tile.columns / kCore;
    const int begin = work.rank * blocks / Shape::kSharers;
    const int bytes = ((work.rank + 1) * blocks / Shape::kSharers - begin) * kRowBlockBytes;
    const std::int64_t chunk_stride = args.columns * kChunkK;
    const std::uint16_t* from = args.x + (tile.column0 + begin * kCore) * kChunkK;
    for (int chunk = 0; chunk < args.chunks; ++chunk, place.Next()) {
      hopper::BarrierWait(ring.empty + place.stage, place.parity ^ 1);
      std::uint64_t* const full = ring.full + place.stage;
      unsigned char* const to = ring.X(place.stage) + begin * kRowBlockBytes;
      hopper::BarrierExpect(full, blocks * kRowBlockBytes);
      if (bytes > 0) hopper::BulkCopyMulticast(to, from, bytes, full, (1 << Shape::kSharers) - 1);
      from += chunk_stride;
    }
  }
}

// By the feeding warpgroup's warp `feeder`.
template <class Shape>
__device__ __forceinline__ void FeedRing(const ProductArgs& args, const WideRing<Shape>& ring,
                                         const WideWork& work, int feeder) {
  if (threadIdx.x % 32 != 0 || feeder >= Shape::kFeeders) return;
  if (feeder < Shape::kParts) {
    FeedWeights(args, ring, work, feeder);
  } else {
    FeedX(args, ring, work);
  }
}

// The sums of the next `steps` chunks, by a warpgroup.
template <class Shape>
__device__ __forceinline__ void MultiplyChunks(const WideRing<Shape>& ring, int steps,
                                               RingPlace<Shape::kStages>& place,
                                               float (&sum)[Shape::kRows / 2]) {
  const int group = threadIdx.x / 128;
#pragma unroll
  for (int i = 0; i < Shape::kRows / 2; ++i) sum[i] = 0.0f;
  int previous = 0;
  for (int step = 0; step < steps; ++step, place.Next()) {
    hopper::BarrierWait(ring.full + place.stage, place.parity);
    const std::uint64_t a =
        hopper::MatrixDescriptor(ring.X(place.stage) + group * (64 / kCore) * kRowBlockBytes, kRowBlockBytes);
    const std::uint64_t b = hopper::MatrixDescriptor(ring.Weights(place.stage), kRowBlockBytes);
    hopper::WarpgroupFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i)
      hopper::WarpgroupMma<Shape::kRows>::Run(sum, a + i * (256 >> 4), b + i * (256 >> 4));
    hopper::WarpgroupCommit();
    hopper::WarpgroupWait<1>();
    if (step > 0) ring.Release(previous);
    previous = place.stage;
  }
  hopper::WarpgroupWait<0>();
  ring.Release(previous);
}

// sums[row of x][row of W], 16 rows of x a warp: a lane holds rows lane / 4 (+ 8), columns 8 j + lane % 4 * 2
// (+ 1).
template <class Shape>
__device__ __forceinline__ void StoreWideSums(const float (&sum)[Shape::kRows / 2], float* sums) {
  const int lane = threadIdx.x % 32;
  float* const to = sums + lane / 4 * Shape::kSumStride + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < Shape::kRows / 8; ++j) {
    *reinterpret_cast<float2*>(to + 8 * j) = {sum[4 * j], sum[4 * j + 1]};
    *reinterpret_cast<float2*>(to + 8 * Shape::kSumStride + 8 * j) = {sum[4 * j + 2], sum[4 * j + 3]};
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WIDE_RING_CUH_
