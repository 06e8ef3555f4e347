// How the operands of the whole product (whole_product.cuh) reach shared memory: a ring of stages, each a
// chunk of 64 k of the block's rows of W and of x, fed by a warp each. What both blocks of a cluster read
// comes once from L2, each fetching half of it for both.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_

#include <cstdint>

#include "kernels/device/ring.cuh"
#include "kernels/device/wgmma.cuh"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"

namespace mambad::kernels {

inline constexpr int kWholeBlocks = 2;     // of a cluster
inline constexpr int kWholeColumns = 128;  // the most rows of x a tile
inline constexpr std::uint16_t kWholeMask = (1 << kWholeBlocks) - 1;

// A block takes kRowsOfW rows of W by kRowsOfX rows of x, 64 or 128. The blocks of a cluster share the rows
// of x or, where x has more than a tile, those of W. Halves of a tile's rows of W are fetched apart: where
// the output has two parts, each takes the same rows of its own part of W.
template <int kRowsOfW, int kRowsOfX, bool kSharesRowsOfX, class Output>
struct WholeShape {
  static constexpr int kRows = kRowsOfW;
  static constexpr int kParts = Output::kParts;
  static constexpr bool kSharesX = kSharesRowsOfX;
  static constexpr int kColumns = kRowsOfX;

  static constexpr int kHalfRows = kRows / 2;
  static constexpr int kHalfBlocks = kHalfRows / kCore;
  static_assert(kHalfBlocks * 2 * kCore == kRows);

  // A warpgroup multiplies 64 rows of x: its own, or all of them by its half of the rows of W. What lies
  // behind the last row of x is multiplied too.
  static constexpr bool kSplitsX = kColumns == 128;
  static_assert(kSplitsX || kColumns == 64);
  static constexpr int kSums = (kSplitsX ? kRows : kHalfRows) / 2;  // a thread

  static constexpr int kWorkers = 256;                        // threads that multiply
  static constexpr int kFetchers = 64;                        // that fetch the output's inputs
  static constexpr int kThreads = kWorkers + 64 + kFetchers;  // and a warp each feeds W and x
  static constexpr int kWeightBytes = kRows * kChunkK * 2;
  static constexpr int kXBytes = kColumns * kChunkK * 2;
  static constexpr int kStageBytes = kWeightBytes + kXBytes;
  // What the output needs of the model for a tile: of its first half, then of its second.
  static constexpr int kInputsOfHalf = Output::InputsOf(0);
  static constexpr int kInputs = kInputsOfHalf + Output::InputsOf(kParts - 1);
  static constexpr int kInputFloats = kInputs * kHalfRows;
  // Through which the warps rearrange their sums, sixteen rows each.
  static constexpr int kExchangeBytes = kWorkers / 2 * Output::ExchangeRowBytes(kRows / kParts);
  static constexpr int kSquareFloats = Output::kSquares && !kSplitsX ? kColumns : 0;

  static constexpr int kOtherBytes = kExchangeBytes + (2 * kInputFloats + kSquareFloats) * 4 + 4 * 8;
  static constexpr int kStages = (227 * 1024 - kOtherBytes) / (kStageBytes + 2 * 8);
  static constexpr int kExchangeAt = kStages * kStageBytes;
  static constexpr int kInputsAt = kExchangeAt + kExchangeBytes;
  static constexpr int kBarriersAt = kInputsAt + (2 * kInputFloats + kSquareFloats) * 4;
  static constexpr int kSharedBytes = kBarriersAt + (2 * kStages + 4) * 8;
  static_assert(kBarriersAt % 8 == 0 && kSharedBytes <= 227 * 1024);
};

// A tile of a product. A block takes those from First() on, Step() apart.
template <class Shape>
struct WholeTile {
  int row_tile;          // of W; may lie past the end
  int column0, columns;  // rows of x; none past the end

  static __host__ __device__ int RowTiles(const ProductArgs& args) {
    return (args.rows + Shape::kRows - 1) / Shape::kRows;
  }
  static __host__ __device__ int ColumnTiles(const ProductArgs& args) {
    return (args.columns + Shape::kColumns - 1) / Shape::kColumns;
  }
  // Of clusters: all of them, and those along x.
  static __host__ __device__ int Count(const ProductArgs& args) {
    return (Shape::kSharesX ? (RowTiles(args) + 1) / 2 : RowTiles(args)) * Across(args);
  }
  static __host__ __device__ int Across(const ProductArgs& args) {
    return Shape::kSharesX ? ColumnTiles(args) : (ColumnTiles(args) + 1) / 2;
  }
  static __device__ int First() { return static_cast<int>(blockIdx.x) / kWholeBlocks; }
  static __device__ int Step() { return static_cast<int>(gridDim.x) / kWholeBlocks; }

  // Rows of x run fastest: clusters that run together read the same rows of W. Their number is a multiple of
  // Across(), so that a block keeps its rows of x.
  __device__ WholeTile(const ProductArgs& args, int index, int rank) {
    const int across = Across(args);
    row_tile = Shape::kSharesX ? index / across * 2 + rank : index / across;
    column0 = (Shape::kSharesX ? index % across : index % across * 2 + rank) * Shape::kColumns;
    columns = max(0, min(Shape::kColumns, args.columns - column0));
  }

  // The part of W that half `half` of the tile is of, and its first row within that part and within W.
  static __device__ __forceinline__ int PartOf(int half) { return Shape::kParts == 2 ? half : 0; }
  __device__ __forceinline__ int RowInPart(int half) const {
    return Shape::kParts == 2 ? row_tile * Shape::kHalfRows
                              : row_tile * Shape::kRows + half * Shape::kHalfRows;
  }
  __device__ __forceinline__ int RowInWeight(const ProductArgs& args, int half) const {
    return PartOf(half) * PartRows(args) + RowInPart(half);
  }
  static __device__ __forceinline__ int PartRows(const ProductArgs& args) {
    return args.rows / Shape::kParts;
  }
};

template <class Shape>
struct WholeRing {
  unsigned char* data;

  __device__ explicit WholeRing(unsigned char* shared) : data(shared) {}

  __device__ std::uint64_t* Full() const { return Barriers(); }
  __device__ std::uint64_t* Empty() const { return Barriers() + Shape::kStages; }
  __device__ std::uint64_t* InputsFull() const { return Barriers() + 2 * Shape::kStages; }
  __device__ std::uint64_t* InputsEmpty() const { return InputsFull() + 2; }
  __device__ void Init() const {
    for (int i = 0; i < Shape::kStages; ++i) {
      InitBarrier(Full() + i, 2);  // the feeders of this block
      InitBarrier(Empty() + i, kWholeBlocks * Shape::kWorkers / 32);
    }
    for (int i = 0; i < 2; ++i) {
      InitBarrier(InputsFull() + i, Shape::kFetchers / 32);
      InitBarrier(InputsEmpty() + i, Shape::kWorkers / 32);
    }
    hopper::BarrierInitFence();
  }
  __device__ unsigned char* X(int stage) const { return data + stage * Shape::kStageBytes; }
  __device__ unsigned char* Weights(int stage) const { return X(stage) + Shape::kXBytes; }
  __device__ unsigned char* Exchange() const { return data + Shape::kExchangeAt; }
  // (2 halves, InputsOf(part), rows of W of the half), of every other tile.
  __device__ float* Inputs(int i, int half) const {
    return reinterpret_cast<float*>(data + Shape::kInputsAt) + i * Shape::kInputFloats +
           half * Shape::kInputsOfHalf * Shape::kHalfRows;
  }
  // Of each row of x: the sum of squares of one half of the tile.
  __device__ float* Squares() const { return Inputs(2, 0); }

 private:
  __device__ std::uint64_t* Barriers() const {
    return reinterpret_cast<std::uint64_t*>(data + Shape::kBarriersAt);
  }
};

// One thread: the chunks of a tile's rows of W.
template <class Shape>
class WeightFeeder {
 public:
  static constexpr int kHalves = Shape::kSharesX ? 2 : 1;  // else the other block fetches the other half

  __device__ void Begin(const ProductArgs& args, const WholeTile<Shape>& tile, int rank) {
#pragma unroll
    for (int i = 0; i < kHalves; ++i) {
      const int half = Shape::kSharesX ? i : rank;
      const int block = tile.RowInWeight(args, half) / kCore;
      to_[i] = half * Shape::kHalfBlocks * kRowBlockBytes;
      first_blocks_[i] = min(Shape::kHalfBlocks, kTileBlocks - block % kTileBlocks);
      first_[i] = Source(args, block);
      rest_[i] = Source(args, block + first_blocks_[i]);
    }
  }
  __device__ __forceinline__ void Fetch(const WholeRing<Shape>& ring, int stage) {
    ArriveExpectBytes(ring.Full() + stage, Shape::kWeightBytes);
#pragma unroll
    for (int i = 0; i < kHalves; ++i) {
      unsigned char* const to = ring.Weights(stage) + to_[i];
      const int bytes = first_blocks_[i] * kRowBlockBytes;
      Copy(to, first_[i], bytes, ring.Full() + stage, policy_);
      if (first_blocks_[i] < Shape::kHalfBlocks)
        Copy(to + bytes, rest_[i], Shape::kHalfBlocks * kRowBlockBytes - bytes, ring.Full() + stage, policy_);
      first_[i] += kTileRows * kChunkK;
      rest_[i] += kTileRows * kChunkK;
    }
  }

 private:
  // Rows past the weight: others, which are not stored.
  static __device__ const std::uint16_t* Source(const ProductArgs& args, int block) {
    const bool inside = block * kCore < args.rows;
    return args.weights + WeightIndex(inside ? block * kCore : 0, 0, args.k_pad);
  }
  static __device__ __forceinline__ void Copy(unsigned char* to, const std::uint16_t* from, int bytes,
                                              std::uint64_t* full, std::uint64_t policy) {
    if constexpr (Shape::kSharesX) {
      BulkCopy(to, from, bytes, full, policy);
    } else {
      BulkCopyMulticast(to, from, bytes, full, kWholeMask, policy);
    }
  }

  const std::uint64_t policy_ = EvictFirst();
  // Of each half: where it lies in the stage, and two runs, since it may reach over the end of a tile of the
  // packed weight.
  int to_[kHalves], first_blocks_[kHalves];
  const std::uint16_t* first_[kHalves];
  const std::uint16_t* rest_[kHalves];
};

// One thread: the chunks of a tile's rows of x.
template <class Shape>
class XFeeder {
 public:
  __device__ void Begin(const ProductArgs& args, const WholeTile<Shape>& tile, int rank) {
    const int column0 = tile.columns > 0 ? tile.column0 : 0;
    blocks_ = min(Shape::kColumns, args.columns - column0) / kCore;
    const int begin = Shape::kSharesX ? rank * blocks_ / kWholeBlocks : 0;
    const int end = Shape::kSharesX ? (rank + 1) * blocks_ / kWholeBlocks : blocks_;
    to_ = begin * kRowBlockBytes;
    bytes_ = (end - begin) * kRowBlockBytes;
    from_ = args.x + (column0 + begin * kCore) * kChunkK;
    step_ = args.columns * kChunkK;
  }
  __device__ __forceinline__ void Fetch(const WholeRing<Shape>& ring, int stage) {
    ArriveExpectBytes(ring.Full() + stage, blocks_ * kRowBlockBytes);
    if constexpr (Shape::kSharesX) {
      BulkCopyMulticast(ring.X(stage) + to_, from_, bytes_, ring.Full() + stage, kWholeMask);
    } else {
      BulkCopy(ring.X(stage) + to_, from_, bytes_, ring.Full() + stage);
    }
    from_ += step_;
  }

 private:
  int blocks_, to_, bytes_, step_;
  const std::uint16_t* from_;
};

// One thread: all chunks of this block's tiles. The first `ahead` of the first tile are fetched already.
template <class Shape, class Feeder>
__device__ __forceinline__ void FeedTiles(const ProductArgs& args, const WholeRing<Shape>& ring, int rank,
                                          Feeder& feeder, int ahead) {
  RingPlace<Shape::kStages> at;
  const int count = WholeTile<Shape>::Count(args);
  for (int index = WholeTile<Shape>::First(); index < count; index += WholeTile<Shape>::Step()) {
    if (ahead == 0) feeder.Begin(args, WholeTile<Shape>(args, index, rank), rank);
    for (int chunk = 0; chunk < args.chunks; ++chunk, at.Next()) {
      if (ahead > 0) {
        --ahead;
        continue;
      }
      WaitBarrier(ring.Empty() + at.stage, at.parity ^ 1);
      feeder.Fetch(ring, at.stage);
    }
  }
  AwaitReleases(ring.Empty(), at);
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_RING_CUH_
