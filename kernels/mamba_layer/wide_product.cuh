// y = x W^T for more than 64 rows of x, all of K in a block. How many rows of W a tile takes is chosen so
// that tiles fall evenly to the multiprocessors. Clusters of two persistent blocks take neighbouring tiles of
// W, for which they need the same x.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/wide_ring.cuh"

namespace mambad::kernels {

// What a thread of the multiplying warps completes of a tile: a quad of rows of W, so that its constants are
// loaded once, for every kWays-th row of x. A row's slot lies in pages of its own: they are touched once.
template <class Shape, class Output>
class WideCompletion {
  static constexpr int kQuads = Shape::kRows / kQuad;
  static constexpr int kWays = Shape::kWarps * 32 / kQuads;
  static constexpr int kAhead = 3;  // rows of x whose slots are on their way

 public:
  __device__ WideCompletion(const ProductArgs& args, const Output& output, const WideTile<Shape>& tile)
      : output_(output), tile_(tile), row_(threadIdx.x % kQuads * kQuad), way_(threadIdx.x / kQuads) {
    m_ = tile.Row(args, row_, inside_);
    inside_ = inside_ && way_ < kWays;
  }

  // Long before Finish, maybe before the previous kernel has ended: the constants and the first slots.
  __device__ __forceinline__ void Begin() {
    if (inside_) output_.LoadConstants(m_, constants_);
#pragma unroll
    for (int i = 0; i < kAhead; ++i) Load(way_ + i * kWays, operands_[i]);
  }
  __device__ __forceinline__ void Finish(const float* sums, const float* scales) {
#pragma unroll 1  // the code runs once: long, it would come slowly
    for (int first = way_; first < tile_.columns; first += kAhead * kWays) {
#pragma unroll
      for (int i = 0; i < kAhead; ++i) {
        const int column = first + i * kWays;
        if (!inside_ || column >= tile_.columns) continue;
        const float4 sum = Load4(sums + column * Shape::kSumStride + row_);
        output_.Apply(m_, tile_.column0 + column, true, sum, Output::kScaled ? scales[column] : 1.0f,
                      constants_, operands_[i]);
        Load(column + kAhead * kWays, operands_[i]);
      }
    }
  }

 private:
  __device__ __forceinline__ void Load(int column, typename Output::Operands& operands) const {
    if (!inside_ || column >= tile_.columns) return;
    output_.LoadSlot(m_, tile_.column0 + column, operands);
  }

  const Output& output_;
  const WideTile<Shape>& tile_;
  const int row_, way_;
  int m_;
  bool inside_;
  typename Output::Constants constants_;
  typename Output::Operands operands_[kAhead];
};

// A spare warp brings the slots to L2.
template <class Shape, class Output>
__device__ __forceinline__ void PrefetchSlots(const ProductArgs& args, const Output& output,
                                              const WideWork& work) {
  constexpr int kQuads = Shape::kRows / kQuad;
  for (int group = work.group; group < work.groups; group += work.group_step) {
    const auto tile = WideTile<Shape>::At(args, group, work.rank);
#pragma unroll 2
    for (int i = threadIdx.x % 32; i < tile.columns * kQuads; i += 32) {
      bool inside;
      const int m = tile.Row(args, i % kQuads * kQuad, inside);
      if (inside) output.Prefetch(m, tile.column0 + i / kQuads);
    }
  }
}

// The norm scales of a warp's 16 rows of x.
template <class Shape, class Output>
__device__ __forceinline__ void FindScales(const Output& output, const WideTile<Shape>& tile,
                                           int first_column, float* scales) {
  if constexpr (Output::kScaled) {
    const int lane = threadIdx.x % 32;
    float scale[4];
    RowScales(output.norm, tile.column0 + first_column + lane / 8, tile.column0 + tile.columns, scale);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      if (lane % 8 == 0) scales[i * 4 + lane / 8] = scale[i];
    }
  }
}

// The sums of all segments, in ascending order.
template <class Shape>
__device__ __forceinline__ void MultiplyAll(const ProductArgs& args, const WideRing<Shape>& ring,
                                            RingPlace<Shape::kStages>& place,
                                            float (&total)[Shape::kRows / 2]) {
#pragma unroll 1
  for (int chunk = 0; chunk < args.chunks; chunk += args.segment_chunks) {
    float sum[Shape::kRows / 2];
    MultiplyChunks(ring, min(args.segment_chunks, args.chunks - chunk), place, sum);
#pragma unroll
    for (int i = 0; i < Shape::kRows / 2; ++i) total[i] = chunk == 0 ? sum[i] : __fadd_rn(total[i], sum[i]);
  }
}

// Cluster (2, 1, 1).
template <int kRows, class Output>
__global__ void __launch_bounds__(WideShape<kRows, Output::kParts>::kThreads, 1)
    WideProduct(const ProductArgs args, const Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = WideShape<kRows, Output::kParts>;
  extern __shared__ __align__(128) unsigned char shared[];
  const WideRing<Shape> ring(shared);
  const WideWork work = {.rank = static_cast<int>(hopper::ClusterRank()),
                         .group = static_cast<int>(blockIdx.x) / Shape::kSharers,
                         .group_step = static_cast<int>(gridDim.x) / Shape::kSharers,
                         .groups = WideTile<Shape>::Groups(args)};
  const int warp = threadIdx.x / 32;
  if (threadIdx.x == 0) ring.Init();
  hopper::ClusterSync();
  if (warp >= Shape::kWarps) {
    hopper::GiveRegisters<40>();
    if (warp == Shape::kWarps + Shape::kFeeders) {
      PrefetchSlots<Shape>(args, output, work);
    } else {
      FeedRing(args, ring, work, warp - Shape::kWarps);
    }
  } else {
    hopper::TakeRegisters<232>();
    RingPlace<Shape::kStages> place;
    for (int group = work.group; group < work.groups; group += work.group_step) {
      const auto tile = WideTile<Shape>::At(args, group, work.rank);
      WideCompletion<Shape, Output> completion(args, output, tile);
      completion.Begin();
      hopper::WaitForPrevious();
      FindScales(output, tile, warp * 16, ring.Scales() + warp * 16);
      float total[kRows / 2];
      MultiplyAll(args, ring, place, total);
      // Not before: the next kernel's blocks would crowd on the multiprocessors that are free first.
      if (group + work.group_step >= work.groups) hopper::LaunchDependents();
      StoreWideSums<Shape>(total, ring.Sums() + warp * 16 * Shape::kSumStride);
      hopper::NamedBarrier(1, Shape::kWarps * 32);  // all sums are there
      completion.Finish(ring.Sums(), ring.Scales());
      hopper::NamedBarrier(1, Shape::kWarps * 32);  // all sums are read
    }
  }
  __syncwarp();
  hopper::ClusterSync();  // the other block may still write into this one's shared memory
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
