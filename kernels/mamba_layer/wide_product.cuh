// y = x W^T for 16 rows of x and more: wgmma on a tile of 128 rows of W by kColumns rows of x. One warp copies
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

namespace mambad::kernels {

template <int kColumns>
struct WideShape {
  static constexpr int kConsumers = 256;
  static constexpr int kThreads = kConsumers + 32;
  static constexpr int kStageK = 64;
  static constexpr int kRowBlockBytes = kCore * kStageK * 2;  // of a stage
  static constexpr int kWeightBytes = kTileRows / kCore * kRowBlockBytes;
  static constexpr int kStageBytes = kWeightBytes + kColumns / kCore * kRowBlockBytes;
  static constexpr int kSumStride = kTileRows + 4;  // floats between columns of the tile's sums
  static constexpr int kSumBytes = kColumns * kSumStride * 4;
  static constexpr int kBudget = 104 * 1024;  // two blocks share a multiprocessor
  static constexpr int kStages = (kBudget - kColumns * 4) / kStageBytes < 5 ? (kBudget - kColumns * 4) / kStageBytes : 5;
  static constexpr int kRingBytes = kStages * kStageBytes > kSumBytes ? kStages * kStageBytes : kSumBytes;
  static constexpr int kSharedBytes = kRingBytes + kColumns * 4;
};

// The copying warp. `k0`: where this block's segment begins.
template <int kColumns>
__device__ __forceinline__ void CopyWideOperands(const ProductArgs& args, int tile, int column0, int k0, int steps,
                                                 int end, unsigned char* ring, std::uint64_t* full,
                                                 std::uint64_t* empty) {
  using Shape = WideShape<kColumns>;
  const int lane = threadIdx.x % 32;
  const auto bytes_of = [&](int step) {
    return static_cast<unsigned>(min(Shape::kStageK, end - k0 - step * Shape::kStageK) * kCore * 2);
  };
  const auto fetch = [&](const std::uint16_t* from, int blocks, int step, unsigned char* to, std::uint64_t* barrier) {
    for (int block = lane; block < blocks; block += 32) {
      hopper::BulkCopy(to + block * Shape::kRowBlockBytes,
                       from + static_cast<std::int64_t>(block) * kCore * args.k_pad +
                           (k0 + step * Shape::kStageK) * kCore,
                       bytes_of(step), barrier);
    }
  };
  constexpr int kBlocks = kTileRows / kCore;
  constexpr int kColumnBlocks = kColumns / kCore;
  const std::uint16_t* weights = args.weights + static_cast<std::int64_t>(tile) * kTileRows * args.k_pad;
  const std::uint16_t* x = args.x + static_cast<std::int64_t>(column0) * args.k_pad;
  const int early = min(steps, Shape::kStages);
  for (int step = 0; step < early; ++step) {
    if (lane == 0) hopper::BarrierExpect(&full[step], (kBlocks + kColumnBlocks) * bytes_of(step));
    __syncwarp();
    fetch(weights, kBlocks, step, ring + step * Shape::kStageBytes, &full[step]);
  }
  hopper::WaitForPrevious();
  for (int step = 0; step < early; ++step)
    fetch(x, kColumnBlocks, step, ring + step * Shape::kStageBytes + Shape::kWeightBytes, &full[step]);
  int stage = 0;
  unsigned parity = 0;
  for (int step = early; step < steps; ++step) {
    hopper::BarrierWait(&empty[stage], parity);
    if (lane == 0) hopper::BarrierExpect(&full[stage], (kBlocks + kColumnBlocks) * bytes_of(step));
    __syncwarp();
    unsigned char* to = ring + stage * Shape::kStageBytes;
    fetch(weights, kBlocks, step, to, &full[stage]);
    fetch(x, kColumnBlocks, step, to + Shape::kWeightBytes, &full[stage]);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
}

// kK16s matrix instructions on one stage.
template <int kColumns, int kK16s>
__device__ __forceinline__ void MultiplyStage(const unsigned char* stage, float (&sum)[kColumns / 2]) {
  using Shape = WideShape<kColumns>;
  const int group = threadIdx.x / 128;
  const std::uint64_t a = hopper::MatrixDescriptor(stage + group * 8 * Shape::kRowBlockBytes, Shape::kRowBlockBytes);
  const std::uint64_t b = hopper::MatrixDescriptor(stage + Shape::kWeightBytes, Shape::kRowBlockBytes);
  hopper::WarpgroupFence();
#pragma unroll
  for (int i = 0; i < kK16s; ++i)
    hopper::WarpgroupMma<kColumns>::Run(sum, a + i * (256 >> 4), b + i * (256 >> 4));
  hopper::WarpgroupCommit();
}

// The two warpgroups that multiply. k_count is a multiple of 32.
template <int kColumns>
__device__ __forceinline__ void MultiplyWide(int k_count, const unsigned char* ring, std::uint64_t* full,
                                             std::uint64_t* empty, float (&sum)[kColumns / 2]) {
  using Shape = WideShape<kColumns>;
  const int whole = k_count / Shape::kStageK;
  int stage = 0;
  unsigned parity = 0;
  for (int step = 0; step < whole; ++step) {
    hopper::BarrierWait(&full[stage], parity);
    MultiplyStage<kColumns, Shape::kStageK / 16>(ring + stage * Shape::kStageBytes, sum);
    hopper::WarpgroupWait<1>();  // the step before this one has read its stage
    if (step > 0 && threadIdx.x % 128 == 0)
      hopper::BarrierArrive(&empty[stage == 0 ? Shape::kStages - 1 : stage - 1]);
    if (++stage == Shape::kStages) {
      stage = 0;
      parity ^= 1;
    }
  }
  hopper::WarpgroupWait<0>();
  if (k_count % Shape::kStageK != 0) {
    hopper::BarrierWait(&full[stage], parity);
    MultiplyStage<kColumns, 2>(ring + stage * Shape::kStageBytes, sum);
    hopper::WarpgroupWait<0>();
  }
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
  const int k0 = segment * args.segment_k;
  const int end = min(k0 + args.segment_k, args.k_pad);
  const int k_count = max(end - k0, 0);
  const int steps = (k_count + Shape::kStageK - 1) / Shape::kStageK;
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
    CopyWideOperands<kColumns>(args, blockIdx.z, column0, k0, steps, end, shared, full, empty);
  } else {
    hopper::WaitForPrevious();
    if (Output::kScaled) {
#pragma unroll 4
      for (int c = warp; c < kColumns; c += Shape::kConsumers / 32) {
        if (column0 + c < args.columns) row_scale[c] = RowScale(output.norm, column0 + c);
      }
    }
    float sum[kColumns / 2];
#pragma unroll
    for (int i = 0; i < kColumns / 2; ++i) sum[i] = 0.0f;
    MultiplyWide<kColumns>(k_count, shared, full, empty, sum);
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
    const int count = kColumns * share / kQuad;
    constexpr int kBatch = 2;
    for (int first = threadIdx.x; first - threadIdx.x % 32 < count; first += kBatch * Shape::kConsumers) {
      typename Output::Operands operands[kBatch];
      int m[kBatch], column[kBatch];
      bool inside[kBatch];
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        // 16 rows of W by 8 columns a warp.
        const int quad = first + i * Shape::kConsumers;
        const int block16 = quad / 4 / kColumns;
        column[i] = quad / 4 % kColumns;
        m[i] = segment * share + block16 * 16 + quad % 4 * kQuad;
        inside[i] = quad < count && blockIdx.z * kTileRows + m[i] < args.rows && column0 + column[i] < args.columns;
        if (inside[i]) {
          output.LoadStable(blockIdx.z * kTileRows + m[i], column0 + column[i], operands[i]);
          output.LoadFresh(blockIdx.z * kTileRows + m[i], column0 + column[i], operands[i]);
        }
      }
#pragma unroll
      for (int i = 0; i < kBatch; ++i) {
        if ((first - threadIdx.x % 32) + i * Shape::kConsumers >= count) break;
        float4 total = {};
        if (inside[i]) {
          const std::uint32_t from = hopper::SharedAddress(sums + column[i] * Shape::kSumStride + m[i]);
          total = hopper::LoadFromRank(from, 0);
#pragma unroll
          for (int s = 1; s < kMaxSegments; ++s) {
            if (s < args.segments) total = AddEach(total, hopper::LoadFromRank(from, s));
          }
        }
        output.Apply(blockIdx.z * kTileRows + m[i], column0 + column[i], inside[i], total,
                     Output::kScaled && inside[i] ? row_scale[column[i]] : 1.0f, operands[i]);
      }
    }
  }
  if (args.segments > 1) hopper::ClusterSync();  // a block's shared memory outlives its readers
#endif
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WIDE_PRODUCT_CUH_
