// y = x W^T for more than 32 rows of x, all of K in a block: tiles of W and x that fall evenly to the
// multiprocessors, one block each, so that operands stream without a pause; while a tile is completed the
// ring fills with the next. wgmma with the rows of x on its M side, those of W on its N side. The sums of
// the segments of K are added in ascending order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"

namespace mambad::kernels {

inline constexpr int kGroupThreads = 128;  // of a warpgroup
inline constexpr int kAheadBarrier = 1, kSquaresBarrier = 2;

// The sums of the next `steps` chunks, by a warpgroup.
template <class Shape>
__device__ __forceinline__ void MultiplyChunks(const WholeRing<Shape>& ring, int steps,
                                               RingPlace<Shape::kStages>& at, float (&sum)[Shape::kSums]) {
  const int group = threadIdx.x / kGroupThreads;
  const int x_offset = Shape::kSplitsX ? group * (64 / kCore) * kRowBlockBytes : 0;
  const int w_offset = Shape::kSplitsX ? 0 : group * Shape::kHalfBlocks * kRowBlockBytes;
  int before = 0;
#pragma unroll
  for (int i = 0; i < Shape::kSums; ++i) sum[i] = 0.0f;
  for (int step = 0; step < steps; ++step, at.Next()) {
    WaitBarrier(ring.full + at.stage, at.parity);
    const std::uint64_t x = MatrixDescriptor(ring.X(at.stage) + x_offset, kRowBlockBytes);
    const std::uint64_t w = MatrixDescriptor(ring.Weights(at.stage) + w_offset, kRowBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i)
      WgmmaAdd<Shape::kSums * 2>(sum, x + i * (256 >> 4), w + i * (256 >> 4));
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0) ReleaseStage<kWholeBlocks>(ring.empty + before);
    before = at.stage;
  }
  WgmmaWait<0>();
  ReleaseStage<kWholeBlocks>(ring.empty + before);
}

// The sums of all segments.
template <class Shape>
__device__ __forceinline__ void MultiplyAll(const ProductArgs& args, const WholeRing<Shape>& ring,
                                            RingPlace<Shape::kStages>& at, float (&total)[Shape::kSums]) {
  MultiplyChunks(ring, min(args.segment_chunks, args.chunks), at, total);
#pragma unroll 1
  for (int chunk = args.segment_chunks; chunk < args.chunks; chunk += args.segment_chunks) {
    float sum[Shape::kSums];
    MultiplyChunks(ring, min(args.segment_chunks, args.chunks - chunk), at, sum);
#pragma unroll
    for (int i = 0; i < Shape::kSums; ++i) total[i] = __fadd_rn(total[i], sum[i]);
  }
}

// The first of the sixteen rows of the tile that a warp completes.
template <class Shape>
__device__ __forceinline__ int FirstColumnOfWarp() {
  return static_cast<int>(threadIdx.x % (Shape::kSplitsX ? Shape::kWorkers : kGroupThreads)) / 32 * 16;
}

// The one of them that a lane does: the even lanes of a pair those of wgmma's first half.
__device__ __forceinline__ int ColumnOfLane() {
  const int lane = threadIdx.x % 32;
  return lane % 2 * 8 + lane / 4;
}

// The norm scale of that row: a warp finds those of its sixteen from `first` on, four at a time. All loads at
// once, since they queue behind what the ring asks for.
__device__ __forceinline__ float CompletedScale(const NormedRows& norm, int first, int end) {
  const int row = ColumnOfLane();
  float scales[4];
  GroupedRowScales(norm, first + static_cast<int>(threadIdx.x) % 32 / 8, end, scales);
  float result = 0.0f;
#pragma unroll
  for (int four = 0; four < 4; ++four) {
    const float given = __shfl_sync(~0u, scales[four], row % 4 * 8);
    if (row / 4 == four) result = given;
  }
  return result;
}

// The scales of both rows that a pair of lanes holds, wgmma's first half first, from each lane's own.
__device__ __forceinline__ float2 ScalesOfRows(float scale) {
  const float other = __shfl_xor_sync(~0u, scale, 1);
  return threadIdx.x % 2 == 0 ? float2{scale, other} : float2{other, scale};
}

// Four channels of the lane's row, from the pairs of both rows that lanes 2 i and 2 i + 1 hold of a block.
__device__ __forceinline__ float4 QuadOfRow(const float* sum) {
  const bool odd = threadIdx.x % 2 != 0;
  const float2 first = {sum[0], sum[1]}, second = {sum[2], sum[3]};
  const float2 given = {__shfl_xor_sync(~0u, odd ? first.x : second.x, 1),
                        __shfl_xor_sync(~0u, odd ? first.y : second.y, 1)};
  return odd ? float4{given.x, given.y, second.x, second.y} : float4{first.x, first.y, given.x, given.y};
}

// Eight channels of the lane's row, as bf16: block lane % 4 / 2 of two. pairs[block][half] is a pair of
// channels of each of wgmma's halves, as lanes 4 i to 4 i + 3 hold them.
__device__ __forceinline__ uint4 EightOfRow(const std::uint32_t (&pairs)[2][2]) {
  const bool odd = threadIdx.x % 2 != 0, second = threadIdx.x % 4 >= 2;
  std::uint32_t quads[2][2];  // of the lane's row, of each block
#pragma unroll
  for (int block = 0; block < 2; ++block) {
    const std::uint32_t given = __shfl_xor_sync(~0u, odd ? pairs[block][0] : pairs[block][1], 1);
    quads[block][0] = odd ? given : pairs[block][0];
    quads[block][1] = odd ? pairs[block][1] : given;
  }
  const std::uint32_t low = __shfl_xor_sync(~0u, second ? quads[0][0] : quads[1][0], 2);
  const std::uint32_t high = __shfl_xor_sync(~0u, second ? quads[0][1] : quads[1][1], 2);
  return second ? uint4{low, high, quads[1][0], quads[1][1]} : uint4{quads[0][0], quads[0][1], low, high};
}

// How many quads of a half a thread completes at once: as many as registers allow.
template <class Shape>
constexpr int QuadsAtOnce() {
  constexpr int kRegisters = 112, kOfQuad = 12, kMost = 5;
  const int fitting = (kRegisters - Shape::kSums) / kOfQuad, most = fitting < kMost ? fitting : kMost;
  const int turns = (Shape::kHalfBlocks + most - 1) / most;
  return (Shape::kHalfBlocks + turns - 1) / turns;
}

// The sum of the squares of kCount blocks from those of their quads, by both lanes of a row: the tree of
// row_norm.cuh.
template <int kCount>
__device__ __forceinline__ float SumOfBlocks(float (&sums)[kCount]) {
  static_assert((kCount & (kCount - 1)) == 0);
#pragma unroll
  for (int i = 0; i < kCount; ++i) sums[i] = __fadd_rn(sums[i], __shfl_xor_sync(~0u, sums[i], 2));
#pragma unroll
  for (int count = kCount / 2; count > 0; count /= 2) {
#pragma unroll
    for (int i = 0; i < count; ++i) sums[i] = __fadd_rn(sums[2 * i], sums[2 * i + 1]);
  }
  return sums[0];
}

// A half of the rows of W by eights of bf16: the operands of the next while one is completed. Its sums lie
// first, and the others are moved there. A loop, since instructions come from memory too.
template <class Shape, int kHalf, class Output>
__device__ __forceinline__ void CompleteByEights(const ProductArgs& args, const Output& output,
                                                 const WholeTile<Shape>& tile,
                                                 const typename Output::Row& row, float scale,
                                                 const float* constants, float (&total)[Shape::kSums]) {
  constexpr int kPart = Shape::kParts == 2 ? kHalf : 0, kBlocks = Shape::kHalfBlocks;
  static_assert(Shape::kSums >= 8 && !Output::kSquares);
  const float2 scales = ScalesOfRows(scale);
  const int own_block = threadIdx.x % 4 / 2, own_pair = threadIdx.x % 4 * 2;
  const int first = tile.RowInPart(kHalf) + own_block * kCore;
  const int end = output.Lives(row) ? WholeTile<Shape>::PartRows(args) : 0;
  const auto completes = [&](int block) {
    return block + own_block < kBlocks && first + block * kCore < end;
  };
  typename Output::RowOperands next = {};
  const auto load = [&](int block) {
    if (completes(block)) output.template LoadRow<kPart>(row, first + block * kCore, next);
  };
  // Two blocks from `block` on, of which the half may have but one.
  const auto complete = [&](int block) {
    const typename Output::RowOperands operands = next;
    load(block + 2);
    const float* const given = constants + kHalf * Shape::kHalfRows + block * kCore;
    std::uint32_t pairs[2][2];
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      pairs[i / 2][i % 2] =
          output.template ToBf16<kPart>({total[2 * i], total[2 * i + 1]}, i % 2 == 0 ? scales.x : scales.y,
                                        given + i / 2 * kCore + own_pair);
    }
    const uint4 eight = EightOfRow(pairs);
    if (completes(block))
      output.template ApplyEight<kPart>(row, first + block * kCore, eight, given + own_block * kCore,
                                        Shape::kRows, operands);
  };
  load(0);
#pragma unroll 1
  for (int block = 0; block + 1 < kBlocks; block += 2) {
    complete(block);
#pragma unroll
    for (int i = 0; i + 8 < Shape::kSums; ++i) total[i] = total[i + 8];
  }
  if constexpr (kBlocks % 2 == 1) {
    complete(kBlocks - 1);
#pragma unroll
    for (int i = 0; i + 4 < Shape::kSums; ++i) total[i] = total[i + 4];
  }
}

// The same by quads. `squares`: the sum of the results' squares, if kSquares.
template <class Shape, int kHalf, class Output>
__device__ __forceinline__ void CompleteByQuads(const ProductArgs& args, const Output& output,
                                                const WholeTile<Shape>& tile, const typename Output::Row& row,
                                                float scale, const float* constants,
                                                float (&total)[Shape::kSums], float& squares) {
  constexpr int kPart = Shape::kParts == 2 ? kHalf : 0;
  constexpr int kAtOnce = QuadsAtOnce<Shape>(), kDone = kAtOnce * 4;
  static_assert(Shape::kHalfBlocks % kAtOnce == 0);  // or the other half's sums would be moved too far
  const bool lives = output.Lives(row);
  const int end = WholeTile<Shape>::PartRows(args);
  int m = tile.RowInPart(kHalf) + threadIdx.x % 4 / 2 * kQuad;
  constants += kHalf * Shape::kHalfRows + threadIdx.x % 4 / 2 * kQuad;
#pragma unroll 1
  for (int block = 0; block < Shape::kHalfBlocks; block += kAtOnce) {
    typename Output::Operands operands[kAtOnce];
    float quads[kAtOnce] = {};  // sums of squares
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      if (lives && m + i * kCore < end) output.template LoadRow<kPart>(row, m + i * kCore, operands[i]);
    }
#pragma unroll
    for (int i = 0; i < kAtOnce; ++i) {
      const float4 sum = QuadOfRow(total + i * 4);
      if (lives && m + i * kCore < end)
        quads[i] = output.template ApplyRow<kPart>(row, m + i * kCore, sum, scale, constants + i * kCore,
                                                   Shape::kRows, operands[i]);
    }
    if constexpr (Output::kSquares) {
      static_assert(Shape::kHalfBlocks == kAtOnce || Shape::kHalfBlocks == 2 * kAtOnce);
      const float sum = SumOfBlocks(quads);
      squares = block == 0 ? sum : __fadd_rn(squares, sum);
    }
#pragma unroll
    for (int i = 0; i + kDone < Shape::kSums; ++i) total[i] = total[i + kDone];
    m += kAtOnce * kCore;
    constants += kAtOnce * kCore;
  }
}

template <class Shape, int kHalf, class Output>
__device__ __forceinline__ void CompleteHalf(const ProductArgs& args, const Output& output,
                                             const WholeTile<Shape>& tile, const typename Output::Row& row,
                                             float scale, const float* constants,
                                             float (&total)[Shape::kSums], float& squares) {
  if constexpr (Output::kTakesEights) {
    CompleteByEights<Shape, kHalf>(args, output, tile, row, scale, constants, total);
  } else {
    CompleteByQuads<Shape, kHalf>(args, output, tile, row, scale, constants, total, squares);
  }
}

// The sum of squares of a tile's rows of W, a group, from those of its halves, which a warpgroup each may
// hold.
template <class Shape, class Output>
__device__ __forceinline__ void CompleteSquares(const Output& output, const WholeRing<Shape>& ring, int m,
                                                bool inside, const typename Output::Row& row, int column,
                                                float (&squares)[2]) {
  static_assert(Shape::kRows == kSquareGroupWidth);
  if constexpr (!Shape::kSplitsX) {
    hopper::NamedBarrier(kSquaresBarrier, Shape::kWorkers);  // the last tile's are read
    if (threadIdx.x >= kGroupThreads) ring.Squares()[column] = squares[1];
    hopper::NamedBarrier(kSquaresBarrier, Shape::kWorkers);
    if (threadIdx.x >= kGroupThreads) return;
    squares[1] = ring.Squares()[column];
  }
  if (inside && threadIdx.x % 4 < 2 && output.Lives(row))
    output.StoreSquares(row, m, __fadd_rn(squares[0], squares[1]));
}

// What the multiplying warps do.
template <class Shape, class Output>
__device__ __forceinline__ void MultiplyTiles(const ProductArgs& args, const Output& output,
                                              const WholeRing<Shape>& ring, int rank) {
  using Tile = WholeTile<Shape>;
  RingPlace<Shape::kStages> at;
  RingPlace<2> inputs;
  const int count = Tile::Count(args);
  const Tile first(args, Tile::First(), rank);
  const int first_column = FirstColumnOfWarp<Shape>(), column = first_column + ColumnOfLane();
  const typename Output::Row row = output.RowAt(first.column0 + column, column < first.columns);
  WaitForPreviousKernel();
  float scale = 1.0f;
  if constexpr (Output::kScaled)
    scale = CompletedScale(output.norm, first.column0 + first_column, first.column0 + first.columns);
  const int group = threadIdx.x / kGroupThreads;
  for (int index = Tile::First(); index < count; index += Tile::Step(), inputs.Next()) {
    const Tile tile(args, index, rank);
    float total[Shape::kSums];
    MultiplyAll(args, ring, at, total);
    WaitBarrier(ring.inputs_full + inputs.stage, inputs.parity);
    const float* const constants = ring.Inputs(inputs.stage);
    float squares[2] = {};  // of the halves
    if (Shape::kSplitsX || group == 0)
      CompleteHalf<Shape, 0>(args, output, tile, row, scale, constants, total, squares[0]);
    if (Shape::kSplitsX || group == 1)
      CompleteHalf<Shape, 1>(args, output, tile, row, scale, constants, total, squares[1]);
    if constexpr (Output::kSquares) {
      const int m = tile.RowInPart(0);
      CompleteSquares(output, ring, m, m < args.rows, row, column, squares);
    }
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::Arrive(ring.inputs_empty + inputs.stage);
  }
}

// The constants of a tile's rows of W.
template <class Shape, class Output>
__device__ __forceinline__ void FetchConstants(const ProductArgs& args, const Output& output,
                                               const WholeTile<Shape>& tile, float* to) {
  constexpr int kQuads = Shape::kRows / kQuad;
  for (int i = threadIdx.x % Shape::kFetchers; i < Output::kConstants * kQuads; i += Shape::kFetchers) {
    const int row = i % kQuads * kQuad, half = row / Shape::kHalfRows;
    const int m = tile.RowInPart(half) + row % Shape::kHalfRows;
    const float* const from = m < WholeTile<Shape>::PartRows(args)
                                  ? output.Constant(i / kQuads, Shape::kParts == 2 ? half : 0, m)
                                  : nullptr;
    *reinterpret_cast<float4*>(to + i * kQuad) = from != nullptr ? Load4(from) : float4{};
  }
}

// What the fetching warps do: constants come from memory each time, and a load waits behind all that the
// ring has asked for.
template <class Shape, class Output>
__device__ __forceinline__ void FetchInputs(const ProductArgs& args, const Output& output,
                                            const WholeRing<Shape>& ring, int rank) {
  using Tile = WholeTile<Shape>;
  RingPlace<2> at;
  const int count = Tile::Count(args);
  for (int index = Tile::First(); index < count; index += Tile::Step(), at.Next()) {
    const Tile tile(args, index, rank);
    WaitBarrier(ring.inputs_empty + at.stage, at.parity ^ 1);
    FetchConstants(args, output, tile, ring.Inputs(at.stage));
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::Arrive(ring.inputs_full + at.stage);
  }
}

// What the feeding warps do, of which the first has no need of the previous kernel for W.
template <class Shape, class Output>
__device__ __forceinline__ void FeedRing(const ProductArgs& args, const Output& output,
                                         const WholeRing<Shape>& ring, int rank) {
  using Tile = WholeTile<Shape>;
  const int warp = static_cast<int>(threadIdx.x - Shape::kWorkers) / 32;
  if (warp == 0) {
    const bool one = ElectOneLane();
    WeightFeeder<Shape> weights;
    const int ahead = Shape::kSharesX ? min(Shape::kStages, args.chunks) : 0;
    if (one) ring.Init();
    __syncwarp();
    hopper::ClusterArrive();
    if (one) {
      weights.Begin(args, Tile(args, Tile::First(), rank), rank);
      for (int stage = 0; stage < ahead; ++stage) weights.Fetch(ring, stage);
    }
    __syncwarp();
    hopper::NamedBarrier(kAheadBarrier, 64);
    hopper::ClusterWait();
    if (one) FeedTiles(args, ring, rank, weights, ahead);
  } else {
    hopper::ClusterArrive();
    hopper::ClusterWait();
    if (warp == 1) {
      WaitForPreviousKernel();
      XFeeder<Shape> x;
      if (ElectOneLane()) FeedTiles(args, ring, rank, x, 0);
    } else {
      if (warp == 2) {
        hopper::NamedBarrier(kAheadBarrier, 64);  // weights that are fetched ahead come first
        output.PrefetchSlots(args.columns, blockIdx.x * 32 + threadIdx.x % 32, gridDim.x * 32);
      }
      FetchInputs(args, output, ring, rank);
    }
  }
  __syncwarp();
}

// Grid (2 x clusters), cluster (2, 1, 1).
template <class Shape, class Output>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    WholeProduct(const ProductArgs args, const Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) unsigned char shared[];
  const WholeRing<Shape> ring(shared);
  const int rank = static_cast<int>(ClusterRank());
  AllowNextKernel();
  if (threadIdx.x >= Shape::kWorkers) {
    ReleaseRegisters<72>();
    FeedRing(args, output, ring, rank);
  } else {
    TakeRegisters<216>();
    hopper::ClusterArrive();
    hopper::ClusterWait();  // the barriers are there
    MultiplyTiles(args, output, ring, rank);
    __syncwarp();
  }
  hopper::ClusterSync();  // a block's shared memory outlives the other's use of it
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
