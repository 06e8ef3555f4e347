// y = x W^T for 16 rows of x and more: wgmma on a tile of 128 rows of W by kColumns rows of x. One thread copies
// both operands through a ring, two warpgroups multiply. The segments of K go to the blocks of a cluster, each
// of which completes a share of the tile's rows from everybody's sums, in ascending order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/wgmma.cuh"

#ifndef WIDE_BUDGET
#define WIDE_BUDGET 104
#endif

namespace mambad::kernels {

template <int kColumns>
struct WideShape {
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kWeightBytes = kTileRows / kCore * kRowBlockBytes;
  static constexpr int kStageBytes = kWeightBytes + kColumns / kCore * kRowBlockBytes;
  static constexpr int kSumStride = kTileRows + 4;  // floats between columns of the tile's sums
  static constexpr int kSumBytes = kColumns * kSumStride * 4;
  static constexpr int kBudget = WIDE_BUDGET * 1024;  // two blocks share a multiprocessor
  static constexpr int kStages = (kBudget - kColumns * 4) / kStageBytes < 6 ? (kBudget - kColumns * 4) / kStageBytes : 6;
  static constexpr int kRingBytes = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;
  static constexpr int kSharedBytes = kRingBytes + kColumns * 4;
};

// One thread copies. `chunk0`: where this block's segment begins.
template <int kColumns>
__device__ __forceinline__ void CopyWideOperands(const ProductArgs& args, int tile, int column0, int chunk0, int steps,
                                                 unsigned char* ring, std::uint64_t* full, std::uint64_t* empty) {
  using Shape = WideShape<kColumns>;
  const int row_blocks = (args.columns + kCore - 1) / kCore;  // of x
  const std::uint16_t* const weights =
      args.weights + (static_cast<std::int64_t>(tile) * (args.k_pad / kChunkK) + chunk0) * kTileRows * kChunkK;
  const std::uint16_t* const x = args.x + (static_cast<std::int64_t>(chunk0) * row_blocks * kCore + column0) * kChunkK;
  const auto fetch_weights = [&](int step, int stage) {
    hopper::BarrierExpect(&full[stage], Shape::kStageBytes);
    hopper::BulkCopy(ring + stage * Shape::kStageBytes, weights + static_cast<std::int64_t>(step) * kTileRows * kChunkK,
                     Shape::kWeightBytes, &full[stage]);
  };
  const auto fetch_x = [&](int step, int stage) {
    hopper::BulkCopy(ring + stage * Shape::kStageBytes + Shape::kWeightBytes,
                     x + static_cast<std::int64_t>(step) * row_blocks * kCore * kChunkK,
                     Shape::kStageBytes - Shape::kWeightBytes, &full[stage]);
  };
  const int early = min(steps, Shape::kStages);
  for (int step = 0; step < early; ++step) fetch_weights(step, step);
  hopper::WaitForPrevious();
  hopper::BulkCopyFence();
  for (int step = 0; step < early; ++step) fetch_x(step, step);
  int stage = 0;
  unsigned parity = 0;
  for (int step = early; step < steps; ++step) {
    hopper::BarrierWait(&empty[stage], parity);
    fetch_weights(step, stage);
    fetch_x(step, stage);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// The two warpgroups that multiply.
template <int kColumns>
__device__ __forceinline__ void MultiplyWide(int steps, const unsigned char* ring, std::uint64_t* full,
                                             std::uint64_t* empty, float (&sum)[kColumns / 2]) {
  using Shape = WideShape<kColumns>;
  const int group = threadIdx.x / 128;
  int stage = 0;
  unsigned parity = 0;
  for (int step = 0; step < steps; ++step) {
    hopper::BarrierWait(&full[stage], parity);
    const unsigned char* const at = ring + stage * Shape::kStageBytes;
    const std::uint64_t a = hopper::MatrixDescriptor(at + group * (Shape::kWeightBytes / 2), kRowBlockBytes);
    const std::uint64_t b = hopper::MatrixDescriptor(at + Shape::kWeightBytes, kRowBlockBytes);
    hopper::WarpgroupFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i)
      hopper::WarpgroupMma<kColumns>::Run(sum, a + i * (256 >> 4), b + i * (256 >> 4));
    hopper::WarpgroupCommit();
    hopper::WarpgroupWait<1>();  // the step before this one has read its stage
    if (step > 0 && threadIdx.x % 128 == 0)
      hopper::BarrierArrive(&empty[stage == 0 ? Shape::kStages - 1 : stage - 1]);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  hopper::WarpgroupWait<0>();
}

// sums[column][row]. Warp w holds rows 16 w + lane / 4 (+ 8), columns 8 j + lane % 4 * 2 (+ 1).
template <int kColumns>
__device__ __forceinline__ void StoreWideSums(const float (&sum)[kColumns / 2], float* sums) {
  constexpr int kStride = WideShape<kColumns>::kSumStride;
  const int lane = threadIdx.x % 32;
  float* to = sums + lane % 4 * 2 * kStride + threadIdx.x / 32 * 16 + lane / 4;
#pragma unroll
  for (int j = 0; j < kColumns / 8; ++j) {
    to[(8 * j) * kStride] = sum[4 * j];
    to[(8 * j + 1) * kStride] = sum[4 * j + 1];
    to[(8 * j) * kStride + 8] = sum[4 * j + 2];
    to[(8 * j + 1) * kStride + 8] = sum[4 * j + 3];
  }
}

// The quad that a thread completes: 16 rows of W by 8 columns a warp.
struct WideItem {
  int first;    // of the warp
  int columns;  // of the tile
  int row0;     // of the block's share of the tile

  __device__ __forceinline__ int index() const { return first + threadIdx.x % 32; }
  __device__ __forceinline__ int column() const { return index() / 4 % columns; }
  __device__ __forceinline__ int row_in_tile() const { return row0 + index() / 4 / columns * 16 + index() % 4 * kQuad; }
  __device__ __forceinline__ int m() const { return blockIdx.z * kTileRows + row_in_tile(); }
  __device__ __forceinline__ bool Inside(const ProductArgs& args, int column0, int count) const {
    return first < count && m() < args.rows && column0 + column() < args.columns;
  }
};

// Grid (segments, tiles of columns, tiles of rows), cluster (segments, 1, 1).
template <int kColumns, class Output>
__global__ void __launch_bounds__(WideShape<kColumns>::kThreads, 2) WideProduct(const ProductArgs args,
                                                                                const Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = WideShape<kColumns>;
  extern __shared__ __align__(128) unsigned char shared[];
  __shared__ std::uint64_t full[Shape::kStages];
  __shared__ std::uint64_t empty[Shape::kStages];
  float* const row_scale = reinterpret_cast<float*>(shared + Shape::kRingBytes);
  const int segment = blockIdx.x;
  const int column0 = blockIdx.y * kColumns;
  const int steps = args.segment_k / kChunkK;
  const int warp = threadIdx.x / 32;

  hopper::LaunchDependents();
  if (threadIdx.x == 0) {
    for (int i = 0; i < Shape::kStages; ++i) {
      hopper::BarrierInit(&full[i], 1);
      hopper::BarrierInit(&empty[i], Shape::kConsumers / 128);
    }
    hopper::BarrierInitFence();
  }
  __syncthreads();

  float* const sums = reinterpret_cast<float*>(shared);  // takes the ring's place
  if (warp == Shape::kConsumers / 32) {
    if (threadIdx.x % 32 == 0)
      CopyWideOperands<kColumns>(args, blockIdx.z, column0, segment * steps, steps, shared, full, empty);
  } else {
    hopper::WaitForPrevious();
    if (Output::kScaled) {
#pragma unroll 2
      for (int c = warp * 4; c < kColumns; c += Shape::kConsumers / 32 * 4) {
        const int row = c + threadIdx.x % 32 / 8;
        const float scale = RowScale(output.norm, column0 + row, args.columns);
        if (threadIdx.x % 8 == 0) row_scale[row] = scale;
      }
    }
    float sum[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0.0f;
    MultiplyWide<kColumns>(steps, shared, full, empty, sum);
    hopper::NamedBarrier(1, Shape::kConsumers);  // the ring is free
    StoreWideSums<kColumns>(sum, sums);
  }
  if (args.segments > 1) {
    hopper::ClusterSync();
  } else {
    __syncthreads();
  }

  if (warp < Shape::kConsumers / 32) {
    const int share = kTileRows / args.segments;  // rows that this block completes: at least 16
    const int count = kColumns * share / kQuad;   // a multiple of 32
    constexpr int kBatch = Output::kBatch;
    for (int first = warp * 32; first < count; first += kBatch * Shape::kConsumers) {
      typename Output::Operands operands[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const WideItem item = {first + i * Shape::kConsumers, kColumns, segment * share};
        if (item.Inside(args, column0, count)) {
          output.LoadSlot(item.m(), column0 + item.column(), operands[i]);
          output.LoadFresh(item.m(), column0 + item.column(), operands[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        const WideItem item = {first + i * Shape::kConsumers, kColumns, segment * share};
        const bool inside = item.Inside(args, column0, count);
        float4 total = {};
        typename Output::Constants constants = {};
        if (inside) {
          output.LoadConstants(item.m(), constants);
          const std::uint32_t from =
              hopper::SharedAddress(sums + item.column() * Shape::kSumStride + item.row_in_tile());
          total = hopper::LoadFromRank(hopper::AddressInRank(from, 0));
#pragma unroll
          for (int s = 1; s < kMaxSegments; ++s) {
            if (s < args.segments) total = AddEach(total, hopper::LoadFromRank(hopper::AddressInRank(from, s)));
          }
        }
        // Past the last quad nothing is inside, but a warp stays whole.
        output.Apply(item.m(), column0 + item.column(), inside, total,
                     Output::kScaled && inside ? row_scale[item.column()] : 1.0f, constants, operands[i]);
      }
    }
  }
  if (args.segments > 1) hopper::ClusterSync();  // a block's shared memory outlives its readers
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
