// y = x W^T for 65 to 128 rows of x, all of K in a block: wgmma on tiles of W that fall evenly to the
// multiprocessors, one block each, so that W streams from device memory without a pause. Segments are added
// in ascending order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"

namespace mambad::kernels {

// What a block completes of its cluster's tiles: some rows of x of all of them, `count` from `first` on. A
// row's slot lies in pages of its own, of which a multiprocessor should touch few, each for long pieces.
template <class Shape>
class WholeShare {
 public:
  int first, count;

  __device__ WholeShare(const WholeArgs& args, const WholeTile<Shape>& tile) : args_(args), tile_(tile) {
    const int each = (tile.columns + Shape::kSharers - 1) / Shape::kSharers;
    first = tile.rank * each;
    count = max(0, min(each, tile.columns - first));
  }
  // What this thread completes of a part: row Row() of the cluster's tiles, which is row M() of W, for the
  // share's rows of x Column(i), i < kItems.
  __device__ __forceinline__ int Row() const { return threadIdx.x % Shape::kQuads * kQuad; }
  __device__ __forceinline__ int M(int part, bool& inside) const {
    const int in_part = tile_.cluster * Shape::kSharers * Shape::kPartRows + Row();
    inside = in_part < args_.rows / Shape::kParts && threadIdx.x < Shape::kWays * Shape::kQuads;
    return part * (args_.rows / Shape::kParts) + in_part;
  }
  __device__ __forceinline__ int Column(int i) const {
    return i * Shape::kWays + static_cast<int>(threadIdx.x) / Shape::kQuads;
  }
  __device__ __forceinline__ int RowOfX(int column) const { return tile_.column0 + first + column; }

 private:
  const WholeArgs& args_;
  const WholeTile<Shape>& tile_;
};

// Sends for what the first part's completion will read of the slots.
template <class Shape, class Output>
__device__ __forceinline__ void StageSlots(const Output& output, const WholeShare<Shape>& share,
                                           float4* staged) {
  bool inside;
  const int m = share.M(0, inside);
  if (!inside) return;
#pragma unroll
  for (int i = 0; i < Shape::kItems; ++i) {
    if (share.Column(i) < share.count)
      output.template StageSlot<Shape::kWorkers>(m, share.RowOfX(share.Column(i)),
                                                 staged + i * Shape::kStaged * Shape::kWorkers + threadIdx.x);
  }
}

// The norm scales of the share's rows of x, each warp some.
template <class Shape, class Output>
__device__ __forceinline__ void FindScales(const Output& output, const WholeShare<Shape>& share,
                                           float* scales) {
  const int lane = threadIdx.x % 32;
  for (int column = threadIdx.x / 32 * 4 + lane / 8; column - lane / 8 < share.count;
       column += Shape::kWarps * 4) {
    const float scale = RowScale(output.norm, share.RowOfX(column), share.RowOfX(share.count));
    if (lane % 8 == 0) scales[column] = scale;
  }
}

// A thread's constants of a part: long before they are needed.
template <class Shape, int kPart, class Output>
__device__ __forceinline__ typename Output::Constants ConstantsOf(const Output& output,
                                                                  const WholeShare<Shape>& share) {
  bool inside;
  const int m = share.M(kPart, inside);
  typename Output::Constants constants = {};
  if (inside) output.LoadConstants(m, constants);
  return constants;
}

template <class Shape, int kPart, class Output>
__device__ __forceinline__ void CompletePart(const Output& output, const WholeShare<Shape>& share,
                                             const typename Output::Constants& constants,
                                             const WholeRing<Shape>& ring) {
  bool inside;
  const int m = share.M(kPart, inside);
  if (!inside) return;
  const float* const own = ring.Sums() + share.first * Shape::kSumStride + kPart * Shape::kPartRows +
                           share.Row() % Shape::kPartRows;
  const std::uint32_t from = hopper::AddressInRank(SharedAddress(own), share.Row() / Shape::kPartRows);
  float4 sum[Shape::kItems];
#pragma unroll
  for (int i = 0; i < Shape::kItems; ++i) {
    if (share.Column(i) < share.count)
      sum[i] = hopper::LoadFromRank(from + share.Column(i) * Shape::kSumStride * 4);
  }
#pragma unroll
  for (int i = 0; i < Shape::kItems; ++i) {
    const int column = share.Column(i);
    if (column >= share.count) continue;
    typename Output::Operands operands;
    output.template LoadStaged<Shape::kWorkers>(
        m, share.RowOfX(column), ring.Staged() + i * Shape::kStaged * Shape::kWorkers + threadIdx.x,
        operands);
    output.Apply(m, share.RowOfX(column), true, sum[i], ring.Scales()[column], constants, operands);
  }
}

// What the multiplying warps do.
template <class Shape, class Output>
__device__ __forceinline__ void MultiplyAndComplete(const WholeArgs& args, const Output& output,
                                                    const WholeTile<Shape>& tile,
                                                    const WholeRing<Shape>& ring) {
  static_assert(Shape::kParts == 2 && Output::kScaled);
  const WholeShare<Shape> share(args, tile);
  hopper::ClusterArrive();
  StageSlots(output, share, ring.Staged());
  const auto first_constants = ConstantsOf<Shape, 0>(output, share);
  WaitForPreviousKernel();
  FindScales(output, share, ring.Scales());
  __syncwarp();
  hopper::ClusterWait();  // the barriers are there
  {
    float total[Shape::kRows / 2];
    MultiplyAll(args, ring, total);
    hopper::NamedBarrier(1, Shape::kWorkers);  // the rings are read
    StoreWholeSums<Shape>(total, ring.Sums());
  }
  hopper::AsyncCopyWaitAll();
  hopper::ClusterSync();  // all sums are there
  CompletePart<Shape, 0>(output, share, first_constants, ring);
  CompletePart<Shape, 1>(output, share, ConstantsOf<Shape, 1>(output, share), ring);
  __syncwarp();
  hopper::ClusterSync();  // a block's shared memory outlives the other's use of it
}

// What the feeding warps do: as many cluster barriers as the others.
template <class Shape>
__device__ __forceinline__ void FeedRings(const WholeArgs& args, const WholeTile<Shape>& tile,
                                          const WholeRing<Shape>& ring) {
  const bool feeds_weights = threadIdx.x == Shape::kWorkers;
  const bool feeds_x = threadIdx.x == Shape::kWorkers + 32;
  WeightFeeder<Shape> weights(args, tile);
  const int ahead = min(Shape::kWeightStages, args.chunks);
  if (feeds_weights) ring.Init();
  __syncwarp();
  hopper::ClusterArrive();
  if (feeds_weights) weights.Feed(ring, 0, ahead);
  __syncwarp();
  hopper::ClusterWait();
  if (feeds_weights) weights.Feed(ring, ahead, args.chunks);
  if (feeds_x) {
    WaitForPreviousKernel();
    FeedX(args, tile, ring);
  }
  __syncwarp();
  hopper::ClusterSync();
  hopper::ClusterSync();
}

// Grid (2, tiles of x, pairs of tiles of W), cluster (2, 1, 1).
template <class Shape, class Output>
__global__ void __launch_bounds__(Shape::kThreads, 1)
    WholeProduct(const WholeArgs args, const Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  extern __shared__ __align__(128) unsigned char shared[];
  const WholeRing<Shape> ring(shared);
  const WholeTile<Shape> tile(args);
  AllowNextKernel();
  if (threadIdx.x >= Shape::kWorkers) {
    FeedRings(args, tile, ring);
  } else {
    MultiplyAndComplete(args, output, tile, ring);
  }
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_PRODUCT_CUH_
