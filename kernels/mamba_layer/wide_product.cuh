// y = x W^T for 16 rows of x and more: wgmma on a tile of W by kColumns rows of x. Each
// warpgroup multiplies 64 rows of W. The segments of K go to the blocks of a cluster, each
// of which completes a share of the tile's columns from everybody's sums, in ascending order.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_

#include <cstdint>

#include "kernels/device/wgmma.cuh"
#include "kernels/mamba_layer/hopper.cuh"
#include "kernels/mamba_layer/product_args.h"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"

namespace mambad::kernels {

// kBudget KB of shared memory.
template <int kColumns, int kBudget>
struct WideShape {
  static constexpr int kRows = kTileRows;
  static constexpr int kThreads = 256;
  static constexpr int kWeightBytes = kTileRows / kCore * kRowBlockBytes;  // of one chunk of k
  static constexpr int kStageBytes = kWeightBytes + kColumns / kCore * kRowBlockBytes;
  static constexpr int kSumStride = kRows + 4;  // floats between columns of the tile's sums
  static constexpr int kSumBytes = kColumns * kSumStride * 4;
  static constexpr int kMostStages = 6;
  static constexpr int kFitting = kBudget * 1024 / kStageBytes;
  static constexpr int kStages = kFitting < kMostStages ? kFitting : kMostStages;
  static constexpr int kRingBytes = kStages * kStageBytes > kSumBytes ? kStages* kStageBytes : kSumBytes;
  static constexpr int kSharedBytes = kRingBytes + kColumns * 4;  // and the scales
};

// kBytes that lie together, 16 a thread of kThreads at a time.
template <int kBytes, int kThreads>
__device__ __forceinline__ void CopyBlock(unsigned char* to, const std::uint16_t* from) {
#pragma unroll
  for (int at = 0; at < kBytes; at += kThreads * 16) {
    const int offset = at + threadIdx.x % kThreads * 16;
    if (kBytes % (kThreads * 16) == 0 || offset < kBytes)
      hopper::AsyncCopy16(to + offset, reinterpret_cast<const unsigned char*>(from) + offset);
  }
}

// The sums of one segment, a warpgroup 64 rows. before_wait and after_wait run where there is time.
// Chunks of both operands come through a ring in shared memory.
template <class Shape, int kColumns, class BeforeWait, class AfterWait>
__device__ __forceinline__ void MultiplyWide(const ProductArgs& args, int tile, int column0, int chunk0,
                                             int steps, unsigned char* ring, const BeforeWait& before_wait,
                                             const AfterWait& after_wait, float (&sum)[kColumns / 2]) {
  const int group = threadIdx.x / 128;
  const int row_blocks = (args.columns + kCore - 1) / kCore;  // of x
  const std::uint16_t* const weights =
      args.weights + (static_cast<std::int64_t>(tile) * args.chunks + chunk0) * kTileRows * kChunkK;
  const std::uint16_t* const x =
      args.x + (static_cast<std::int64_t>(chunk0) * row_blocks * kCore + column0) * kChunkK;
  const auto fetch_weights = [&](int step, int stage) {
    if (step < steps)
      CopyBlock<Shape::kWeightBytes, Shape::kThreads>(
          ring + stage * Shape::kStageBytes, weights + static_cast<std::int64_t>(step) * kTileRows * kChunkK);
  };
  const auto fetch_x = [&](int step, int stage) {
    if (step < steps)
      CopyBlock<Shape::kStageBytes - Shape::kWeightBytes, Shape::kThreads>(
          ring + stage * Shape::kStageBytes + Shape::kWeightBytes,
          x + static_cast<std::int64_t>(step) * row_blocks * kCore * kChunkK);
    hopper::AsyncCopyCommit();
  };
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) fetch_weights(i, i);
  before_wait();
  WaitForPreviousKernel();
#pragma unroll
  for (int i = 0; i < Shape::kStages - 1; ++i) fetch_x(i, i);
  after_wait();

  int stage = 0;
  int free_stage = Shape::kStages - 1;
  for (int step = 0; step < steps; ++step) {
    hopper::AsyncCopyWait<Shape::kStages - 2>();
    hopper::SharedFence();
    WgmmaWait<0>();
    __syncthreads();  // chunk `step` has arrived, the one before it is read
    const unsigned char* const at = ring + stage * Shape::kStageBytes;
    const std::uint64_t a = MatrixDescriptor(at + group * (Shape::kWeightBytes / 2), kRowBlockBytes);
    const std::uint64_t b = MatrixDescriptor(at + Shape::kWeightBytes, kRowBlockBytes);
    WgmmaFence();
#pragma unroll
    for (int i = 0; i < kChunkK / 16; ++i) WgmmaAdd<kColumns>(sum, a + i * (256 >> 4), b + i * (256 >> 4));
    WgmmaCommit();
    fetch_weights(step + Shape::kStages - 1, free_stage);
    fetch_x(step + Shape::kStages - 1, free_stage);
    free_stage = stage;
    if (++stage == Shape::kStages) stage = 0;
  }
  WgmmaWait<0>();
}

// sums[column][row]. Warp w holds rows 16 w + lane / 4 (+ 8), columns 8 j + lane % 4 * 2 (+ 1).
template <int kStride, int kColumns>
__device__ __forceinline__ void StoreWideSums(const float (&sum)[kColumns / 2], float* sums) {
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

// The sum of four results over the kSegments blocks of the cluster, in ascending order; all loads at once.
template <int kSegments>
__device__ __forceinline__ float4 SumOfRanks(std::uint32_t address) {
  float4 part[kSegments];
#pragma unroll
  for (int s = 0; s < kSegments; ++s) part[s] = hopper::LoadFromRank(hopper::AddressInRank(address, s));
  float4 total = part[0];
#pragma unroll
  for (int s = 1; s < kSegments; ++s) total = AddEach(total, part[s]);
  return total;
}
__device__ __forceinline__ float4 SumOfRanks(std::uint32_t address, int segments) {
  static_assert(kMaxSegments == 8);
  switch (segments) {
    case 1:
      return SumOfRanks<1>(address);
    case 2:
      return SumOfRanks<2>(address);
    case 3:
      return SumOfRanks<3>(address);
    case 4:
      return SumOfRanks<4>(address);
    case 5:
      return SumOfRanks<5>(address);
    case 6:
      return SumOfRanks<6>(address);
    case 7:
      return SumOfRanks<7>(address);
    default:
      return SumOfRanks<8>(address);
  }
}

// Grid (segments, tiles of columns, tiles of rows), cluster (segments, 1, 1).
template <int kColumns, int kBudget, class Output>
__global__ void __launch_bounds__(256, 2) WideProduct(const ProductArgs args, const Output output) {
#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
  using Shape = WideShape<kColumns, kBudget>;
  extern __shared__ __align__(128) unsigned char shared[];
  float* const row_scale = reinterpret_cast<float*>(shared + Shape::kRingBytes);
  float* const sums = reinterpret_cast<float*>(shared);  // takes the ring's place in the end
  const int column0 = blockIdx.y * kColumns;
  const int chunk0 = blockIdx.x * args.segment_chunks;
  const int steps = min(args.segment_chunks, args.chunks - chunk0);
  // What this thread completes: four rows of W, of every column that falls to its block and warp. Long pieces
  // of few rows of y: rows of state lie in different pages of memory.
  const int row = threadIdx.x % (Shape::kRows / kQuad) * kQuad;
  const int m = blockIdx.z * Shape::kRows + row;
  const int first_column = threadIdx.x / (Shape::kRows / kQuad) * gridDim.x + blockIdx.x;
  const int column_step = Shape::kThreads / (Shape::kRows / kQuad) * gridDim.x;
  const int columns = min(kColumns, args.columns - column0);
  const bool row_inside = m < args.rows;

  AllowNextKernel();
  if (gridDim.x > 1) hopper::ClusterArriveRelaxed();
  // While the first weights come.
  const auto prefetch = [&] {
    if (!row_inside) return;
#pragma unroll 4
    for (int column = first_column; column < columns; column += column_step)
      output.Prefetch(m, column0 + column);
  };
  // While the first of x come: each block of the cluster finds the scales of every gridDim.x-th four rows,
  // for all.
  const auto find_scales = [&] {
    if (gridDim.x > 1) hopper::ClusterWait();  // all have begun
    if constexpr (Output::kScaled) {
      for (int four = threadIdx.x / 32 * gridDim.x + blockIdx.x; four * 4 < kColumns;
           four += Shape::kThreads / 32 * gridDim.x) {
        const int column = four * 4 + threadIdx.x % 32 / 8;
        float scale[1];
        GroupedRowScales(output.norm, column0 + column, args.columns, scale);
        if (threadIdx.x % 8 < gridDim.x)
          hopper::StoreToRank(hopper::AddressInRank(SharedAddress(row_scale + column), threadIdx.x % 8),
                              scale[0]);
      }
    }
  };
  {
    float sum[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0.0f;
    MultiplyWide<Shape, kColumns>(args, blockIdx.z, column0, chunk0, steps, shared, prefetch, find_scales,
                                  sum);
    __syncthreads();  // the ring is free
    StoreWideSums<Shape::kSumStride, kColumns>(sum, sums);
  }
  typename Output::Constants constants = {};
  if (row_inside) output.LoadConstants(m, constants);  // while the others' sums come
  __syncthreads();
  if (gridDim.x > 1) {
    // One warp's fence is for all that it has met at the barrier: a thread's own would wait for its stores.
    if (threadIdx.x < 32) ReleaseToCluster();
    __syncwarp();
    hopper::ClusterArriveRelaxed();
    hopper::ClusterWait();
  }
  for (int column = first_column; column < columns; column += column_step) {
    typename Output::Operands operands;
    if (row_inside) {
      output.LoadSlot(m, column0 + column, operands);
      output.LoadFresh(m, column0 + column, operands);
    }
    const float4 total = SumOfRanks(SharedAddress(sums + column * Shape::kSumStride + row), gridDim.x);
    output.Apply(m, column0 + column, row_inside, true, total, Output::kScaled ? row_scale[column] : 1.0f,
                 constants, operands);
  }
  if (gridDim.x > 1) {
    // A block's shared memory outlives its readers: each warp has added up all that it loaded.
    __syncwarp();
    hopper::ClusterArriveRelaxed();
    hopper::ClusterWait();
  }
#else
  __trap();  // built without 90a for a card that takes this kernel
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
