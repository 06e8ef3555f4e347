// The main loop of the whole product: tiles of kRows rows of W (the N side of wgmma) by kColumns rows of x
// (the M side). Chunks of 64 k of both come through two rings in shared memory, each fed by a thread of its
// own: issuing a bulk copy takes longer than multiplying a part of a chunk. Those of W do not wait for the
// previous kernel.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_

#include <cstdint>

#include "kernels/device/wgmma.cuh"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/quad.cuh"

namespace mambad::kernels {

// W falls into kParts equal parts, of which a tile takes the same rows each. kStaged: float4 of a row's slot
// that wait in shared memory for a quad of the first part to be completed.
template <int kRowsOfW, int kPartsOfW, int kStagedQuads>
struct WholeShape {
  static constexpr int kRows = kRowsOfW;
  static constexpr int kColumns = 128;  // 64 a warpgroup
  static constexpr int kParts = kPartsOfW;
  static constexpr int kStaged = kStagedQuads;
  static constexpr int kSharers = 2;  // blocks of a cluster: neighbouring tiles of W; each fetches half of x
  static constexpr int kPartRows = kRows / kParts;
  static constexpr int kPartBlocks = kPartRows / kCore;
  static_assert(kPartBlocks * kParts * kCore == kRows);

  static constexpr int kWarps = kColumns / 16;  // that multiply
  static constexpr int kWorkers = kWarps * 32;
  static constexpr int kThreads = kWorkers + 64;  // and a warp to feed each ring

  // Completing: a thread keeps a quad of the cluster's rows of a part, for kItems of the block's half of the
  // tile's rows of x.
  static constexpr int kQuads = kSharers * kPartRows / kQuad;
  static constexpr int kWays = kWorkers / kQuads;
  static constexpr int kItems = (kColumns / kSharers + kWays - 1) / kWays;

  static constexpr int kWeightBytes = kRows * kChunkK * 2;
  static constexpr int kXBytes = kColumns * kChunkK * 2;
  static constexpr int kStagedBytes = kStaged * kItems * kWorkers * 16;
  static constexpr int kBudget = 225 * 1024 - kStagedBytes;
  static constexpr int kXStages = 5;
  static constexpr int kFitting = (kBudget - kXStages * kXBytes) / kWeightBytes;
  static constexpr int kWeightStages = kFitting < 12 ? kFitting : 12;
  static_assert(kWeightStages >= 4);
  static constexpr int kRingBytes = kXStages * kXBytes + kWeightStages * kWeightBytes;
  static constexpr int kSumStride = kRows + (kRows % 16 == 0 ? 8 : 0);  // floats between rows of x
  static_assert(kColumns * kSumStride * 4 <= kRingBytes);  // sums take the rings' place in the end
  static constexpr int kScalesAt = kRingBytes + kStagedBytes;
  static constexpr int kBarriersAt = kScalesAt + kColumns * 4;
  static constexpr int kSharedBytes = kBarriersAt + 2 * (kXStages + kWeightStages) * 8;
  static_assert(kSharedBytes <= 227 * 1024);
};

struct WholeArgs : ProductArgs {
  std::int32_t tile_columns;  // rows of x a tile: a multiple of 8
};

// The tile of a block: grid (blocks of a cluster, tiles of x, clusters along W).
template <class Shape>
struct WholeTile {
  int rank;  // in the cluster
  int cluster;
  int column0, columns;  // rows of x

  __device__ explicit WholeTile(const WholeArgs& args)
      : rank(static_cast<int>(blockIdx.x)),
        cluster(static_cast<int>(blockIdx.z)),
        column0(static_cast<int>(blockIdx.y) * args.tile_columns),
        columns(min(args.tile_columns, args.columns - column0)) {}
  // The first row block of W of a part.
  __device__ int FirstBlock(const WholeArgs& args, int part) const {
    return part * (args.rows / Shape::kParts / kCore) +
           (cluster * Shape::kSharers + rank) * Shape::kPartBlocks;
  }
};

// Where a role stands in a ring.
template <int kStages>
struct WholePlace {
  int stage = 0;
  std::uint32_t parity = 0;

  __device__ __forceinline__ void Next() {
    if (++stage == kStages) stage = 0, parity ^= 1;
  }
};

template <class Shape>
struct WholeRing {
  unsigned char* data;
  std::uint64_t* weights_full;
  std::uint64_t* weights_empty;
  std::uint64_t* x_full;
  std::uint64_t* x_empty;  // in all sharers

  __device__ explicit WholeRing(unsigned char* shared)
      : data(shared),
        weights_full(reinterpret_cast<std::uint64_t*>(shared + Shape::kBarriersAt)),
        weights_empty(weights_full + Shape::kWeightStages),
        x_full(weights_empty + Shape::kWeightStages),
        x_empty(x_full + Shape::kXStages) {}
  __device__ void Init() const {
    for (int i = 0; i < Shape::kWeightStages; ++i) {
      InitBarrier(weights_full + i, 1);
      InitBarrier(weights_empty + i, Shape::kWarps);
    }
    for (int i = 0; i < Shape::kXStages; ++i) {
      InitBarrier(x_full + i, 1);
      InitBarrier(x_empty + i, Shape::kSharers * Shape::kWarps);
    }
    hopper::BarrierInitFence();
  }
  __device__ unsigned char* X(int stage) const { return data + stage * Shape::kXBytes; }
  __device__ unsigned char* Weights(int stage) const {
    return data + Shape::kXStages * Shape::kXBytes + stage * Shape::kWeightBytes;
  }
  __device__ float* Sums() const { return reinterpret_cast<float*>(data); }
  __device__ float4* Staged() const { return reinterpret_cast<float4*>(data + Shape::kRingBytes); }
  __device__ float* Scales() const { return reinterpret_cast<float*>(data + Shape::kScalesAt); }
};

// One thread: chunks first .. end-1 of W, through the rows that this tile takes of part after part.
template <class Shape>
class WeightFeeder {
 public:
  __device__ WeightFeeder(const WholeArgs& args, const WholeTile<Shape>& tile)
      : to_next_tile_(args.chunks * kTileRows * kChunkK) {
    constexpr int kTileBlocks = kTileRows / kCore;
    const int row_blocks = static_cast<int>(RoundUp(args.rows, kTileRows)) / kCore;
#pragma unroll
    for (int i = 0; i < Shape::kParts; ++i) {
      const int first = tile.FirstBlock(args, i);
      const int blocks = max(0, min(Shape::kPartBlocks, row_blocks - first));  // past W: garbage, not stored
      bytes_ += blocks * kRowBlockBytes;
      parts_[i].blocks = min(blocks, kTileBlocks - first % kTileBlocks);
      parts_[i].rest = blocks - parts_[i].blocks;
      parts_[i].from = args.weights + WeightIndex(first * kCore, 0, args.k_pad);
    }
  }
  __device__ __forceinline__ void Feed(const WholeRing<Shape>& ring, int first, int end) {
    for (int chunk = first; chunk < end; ++chunk, at_.Next()) {
      if (chunk >= Shape::kWeightStages) WaitBarrier(ring.weights_empty + at_.stage, at_.parity ^ 1);
      FetchChunk(ring.Weights(at_.stage), ring.weights_full + at_.stage);
    }
  }

 private:
  // Two runs where a part reaches over the end of a tile of the packed weight.
  struct Part {
    const std::uint16_t* from;
    int blocks, rest;
  };

  __device__ __forceinline__ void FetchChunk(unsigned char* to, std::uint64_t* full) {
    ArriveExpectBytes(full, bytes_);
#pragma unroll
    for (int i = 0; i < Shape::kParts; ++i, to += Shape::kPartBlocks * kRowBlockBytes) {
      Part& part = parts_[i];
      if (part.blocks > 0) BulkCopy(to, part.from, part.blocks * kRowBlockBytes, full);
      if (part.rest > 0) {
        const int into = kTileRows / kCore - part.blocks;  // where in its tile the first run begins
        BulkCopy(to + part.blocks * kRowBlockBytes, part.from + to_next_tile_ - into * kCore * kChunkK,
                 part.rest * kRowBlockBytes, full);
      }
      part.from += kTileRows * kChunkK;
    }
  }

  const int to_next_tile_;  // elements between chunks of neighbouring tiles
  int bytes_ = 0;
  Part parts_[Shape::kParts];
  WholePlace<Shape::kWeightStages> at_;
};

// One thread: this block's half of x, for both.
template <class Shape>
__device__ __forceinline__ void FeedX(const WholeArgs& args, const WholeTile<Shape>& tile,
                                      const WholeRing<Shape>& ring) {
  const int blocks = tile.columns / kCore;
  const int begin = tile.rank * blocks / Shape::kSharers;
  const int own_bytes = ((tile.rank + 1) * blocks / Shape::kSharers - begin) * kRowBlockBytes;
  const std::uint16_t* from = args.x + (tile.column0 + begin * kCore) * kChunkK;
  WholePlace<Shape::kXStages> at;
  for (int chunk = 0; chunk < args.chunks; ++chunk, at.Next()) {
    if (chunk >= Shape::kXStages) WaitBarrier(ring.x_empty + at.stage, at.parity ^ 1);
    ArriveExpectBytes(ring.x_full + at.stage, blocks * kRowBlockBytes);
    if (own_bytes > 0)
      BulkCopyMulticast(ring.X(at.stage) + begin * kRowBlockBytes, from, own_bytes, ring.x_full + at.stage,
                        (1 << Shape::kSharers) - 1);
    from += args.columns * kChunkK;
  }
}

// Where a multiplying warp stands in the rings.
template <class Shape>
struct WholeReader {
  WholePlace<Shape::kWeightStages> weights;
  WholePlace<Shape::kXStages> x;
};

// By a warp that has read a chunk.
template <class Shape>
__device__ __forceinline__ void ReleaseChunk(const WholeRing<Shape>& ring, int weight_stage, int x_stage) {
  const int lane = threadIdx.x % 32;
  if (lane == 0) hopper::Arrive(ring.weights_empty + weight_stage);
  if (lane < Shape::kSharers) ArriveCluster(ring.x_empty + x_stage, lane);
}

// The sums of the next `steps` chunks, by a warpgroup.
template <class Shape>
__device__ __forceinline__ void MultiplyChunks(const WholeRing<Shape>& ring, int steps,
                                               WholeReader<Shape>& at, float (&sum)[Shape::kRows / 2]) {
  const int x_offset = threadIdx.x / 128 * (64 / kCore) * kRowBlockBytes;
  int weights_before = 0, x_before = 0;
  for (int step = 0; step < steps; ++step) {
    WaitBarrier(ring.weights_full + at.weights.stage, at.weights.parity);
    WaitBarrier(ring.x_full + at.x.stage, at.x.parity);
    const std::uint64_t x = MatrixDescriptor(ring.X(at.x.stage) + x_offset, kRowBlockBytes);
    const std::uint64_t w = MatrixDescriptor(ring.Weights(at.weights.stage), kRowBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i)
      Wgmma<Shape::kRows>(sum, x + i * (256 >> 4), w + i * (256 >> 4), step == 0 && i == 0);
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0) ReleaseChunk(ring, weights_before, x_before);
    weights_before = at.weights.stage;
    x_before = at.x.stage;
    at.weights.Next();
    at.x.Next();
  }
  WgmmaWait<0>();
  ReleaseChunk(ring, weights_before, x_before);
}

// The sums of all segments, in ascending order.
template <class Shape>
__device__ __forceinline__ void MultiplyAll(const WholeArgs& args, const WholeRing<Shape>& ring,
                                            float (&total)[Shape::kRows / 2]) {
  WholeReader<Shape> at;
  MultiplyChunks(ring, min(args.segment_chunks, args.chunks), at, total);
#pragma unroll 1
  for (int chunk = args.segment_chunks; chunk < args.chunks; chunk += args.segment_chunks) {
    float sum[Shape::kRows / 2];
    MultiplyChunks(ring, min(args.segment_chunks, args.chunks - chunk), at, sum);
#pragma unroll
    for (int i = 0; i < Shape::kRows / 2; ++i) total[i] = __fadd_rn(total[i], sum[i]);
  }
}

// sums[row of x][row of W]: a lane holds rows of x lane / 4 (+ 8), of W 8 j + lane % 4 * 2 (+ 1).
template <class Shape>
__device__ __forceinline__ void StoreWholeSums(const float (&sum)[Shape::kRows / 2], float* sums) {
  const int lane = threadIdx.x % 32;
  float* const to = sums + (threadIdx.x / 32 * 16 + lane / 4) * Shape::kSumStride + lane % 4 * 2;
#pragma unroll
  for (int j = 0; j < Shape::kRows / 8; ++j) {
    *reinterpret_cast<float2*>(to + 8 * j) = {sum[4 * j], sum[4 * j + 1]};
    *reinterpret_cast<float2*>(to + 8 * Shape::kSumStride + 8 * j) = {sum[4 * j + 2], sum[4 * j + 3]};
  }
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_
