// y = x W^T for more than 32 rows of x, all of K in a block: tiles of W and x that fall evenly to the
// multiprocessors, one block each, so that operands stream without a pause; while a tile is completed the
// ring fills with the next. wgmma with the rows of x on its M side, those of W on its N side. The sums of
// the segments of K are added in ascending order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/whole_convolution.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"
#include "kernels/mamba_layer/whole_rows.cuh"

namespace mambad::kernels {

inline constexpr int kGroupThreads = 128;  // of a warpgroup
inline constexpr int kAheadBarrier = 1;

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
    WaitBarrier(ring.Full() + at.stage, at.parity);
    const std::uint64_t x = MatrixDescriptor(ring.X(at.stage) + x_offset, kRowBlockBytes);
    const std::uint64_t w = MatrixDescriptor(ring.Weights(at.stage) + w_offset, kRowBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i)
      WgmmaAdd<Shape::kSums * 2>(sum, x + i * (256 >> 4), w + i * (256 >> 4));
    WgmmaCommit();
    WgmmaWait<1>();
    if (step > 0) ReleaseStage<kWholeBlocks>(ring.Empty() + before);
    before = at.stage;
  }
  WgmmaWait<0>();
  ReleaseStage<kWholeBlocks>(ring.Empty() + before);
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

// What the multiplying warps do.
template <class Shape, class Output>
__device__ __forceinline__ void MultiplyTiles(const ProductArgs& args, const Output& output,
                                              const WholeRing<Shape>& ring, int rank) {
  using Tile = WholeTile<Shape>;
  RingPlace<Shape::kStages> at;
  RingPlace<2> inputs;
  const int count = Tile::Count(args);
  Completion<Shape, Output> completion(output, ring, Tile(args, Tile::First(), rank));
  WaitForPreviousKernel();
  completion.Begin();
  for (int index = Tile::First(); index < count; index += Tile::Step(), inputs.Next()) {
    const Tile tile(args, index, rank);
    float total[Shape::kSums];
    MultiplyAll(args, ring, at, total);
    WaitBarrier(ring.InputsFull() + inputs.stage, inputs.parity);
    completion.Complete(args, tile, ring, inputs.stage, total);
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::Arrive(ring.InputsEmpty() + inputs.stage);
  }
}

// What the output needs for a tile.
template <class Shape, class Output>
__device__ __forceinline__ void FetchTileInputs(const ProductArgs& args, const Output& output,
                                                const WholeTile<Shape>& tile, const WholeRing<Shape>& ring,
                                                int stage) {
  constexpr int kQuads = Shape::kHalfRows / kQuad;
  for (int i = threadIdx.x % Shape::kFetchers; i < Shape::kInputs * kQuads; i += Shape::kFetchers) {
    const int all = i / kQuads, quad = i % kQuads, half = all < Shape::kInputsOfHalf ? 0 : 1;
    const int input = all - half * Shape::kInputsOfHalf, m = tile.RowInPart(half) + quad * kQuad;
    const float4 value =
        m < WholeTile<Shape>::PartRows(args) ? output.Input(input, tile.PartOf(half), m) : float4{};
    const int place = all * kQuads + Output::QuadPlace(input, quad, kQuads);
    *reinterpret_cast<float4*>(ring.Inputs(stage, 0) + place * kQuad) = value;
  }
}

// What the fetching warps do: the output's inputs come from memory each time, and a load waits behind all
// that the ring has asked for.
template <class Shape, class Output>
__device__ __forceinline__ void FetchInputs(const ProductArgs& args, const Output& output,
                                            const WholeRing<Shape>& ring, int rank) {
  using Tile = WholeTile<Shape>;
  RingPlace<2> at;
  const int count = Tile::Count(args);
  for (int index = Tile::First(); index < count; index += Tile::Step(), at.Next()) {
    const Tile tile(args, index, rank);
    WaitBarrier(ring.InputsEmpty() + at.stage, at.parity ^ 1);
    FetchTileInputs(args, output, tile, ring, at.stage);
    __syncwarp();
    if (threadIdx.x % 32 == 0) hopper::Arrive(ring.InputsFull() + at.stage);
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
    hopper::ClusterArriveRelaxed();
    if (one) {
      weights.Begin(args, Tile(args, Tile::First(), rank), rank);
      for (int stage = 0; stage < ahead; ++stage) weights.Fetch(ring, stage);
    }
    __syncwarp();
    hopper::NamedBarrier(kAheadBarrier, 64);
    hopper::ClusterWait();
    if (one) FeedTiles(args, ring, rank, weights, ahead);
  } else {
    hopper::ClusterArriveRelaxed();
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
    hopper::ClusterArriveRelaxed();
    hopper::ClusterWait();  // the barriers are there
    MultiplyTiles(args, output, ring, rank);
    __syncwarp();
  }
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
