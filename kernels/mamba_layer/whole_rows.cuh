// What becomes of a tile of the whole product where the result is fp32 rows: the head's, or the residual
// stream.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_ROWS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_ROWS_CUH_

#include <cstdint>

#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/row_norm.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"
#include "kernels/mamba_layer/whole_sums.cuh"

namespace mambad::kernels {

inline constexpr int kSquaresBarrier = 2;

// A warp's sixteen rows of kChannels channels at a time, fp32: four times, a lane has a quad of row
// 4 * time + lane / 8.
struct QuadExchange {
  static constexpr int kChannels = kExchangedChannels, kBlocks = kChannels / kCore;
  static constexpr int kWarpBytes = 16 * kExchangedRowBytes;
  static constexpr int kTimes = 4;

  float* rows;  // of this warp

  static __device__ __forceinline__ int Row(int time) {
    return time * 4 + static_cast<int>(threadIdx.x % 32) / 8;
  }
  static __device__ __forceinline__ int Channel() { return static_cast<int>(threadIdx.x % 8) * kQuad; }

  // `sums`: of kCount of the blocks.
  template <int kCount>
  __device__ __forceinline__ void Exchange(const float* sums, float4 (&quads)[kTimes]) const {
    constexpr int kStride = kExchangedRowBytes / 4;
    const int lane = static_cast<int>(threadIdx.x % 32);
    float* const to = rows + lane / 4 * kStride + lane % 4 * 2;
#pragma unroll
    for (int i = 0; i < kCount * 2; ++i)
      *reinterpret_cast<float2*>(to + i % 2 * 8 * kStride + i / 2 * kCore) = {sums[i * 2], sums[i * 2 + 1]};
    __syncwarp();
#pragma unroll
    for (int time = 0; time < kTimes; ++time) quads[time] = Load4(rows + Row(time) * kStride + Channel());
    __syncwarp();
  }
};

template <class Shape>
__device__ __forceinline__ QuadExchange ExchangeOfWarp(const WholeRing<Shape>& ring) {
  return {reinterpret_cast<float*>(ring.Exchange() + threadIdx.x / 32 * QuadExchange::kWarpBytes)};
}

template <class Shape>
class Completion<Shape, PlainRows<true>> {
  using Lane = WholeLane<Shape>;
  using Tile = WholeTile<Shape>;

 public:
  __device__ Completion(const PlainRows<true>& output, const WholeRing<Shape>&, const Tile& first)
      : output_(output), first_(first) {}
  __device__ __forceinline__ void Begin() { scales_ = ScalesOfSums(output_.norm, first_, lane_); }

  __device__ __forceinline__ void Complete(const ProductArgs&, const Tile& tile, const WholeRing<Shape>& ring,
                                           int, float (&total)[Shape::kSums]) const {
    constexpr int kStep = QuadExchange::kBlocks;
    const QuadExchange exchange = ExchangeOfWarp(ring);
    const int first = tile.RowInPart(lane_.half) + exchange.Channel();
    float* const rows = output_.y + first;
    ScaleSums(total, scales_);
#pragma unroll
    for (int block = 0; block < Lane::kBlocks; block += kStep) {
      constexpr int kLeft = Lane::kBlocks % kStep;
      float4 quads[QuadExchange::kTimes];
      if (block + kStep <= Lane::kBlocks) {
        exchange.Exchange<kStep>(total + block * 4, quads);
      } else {
        exchange.Exchange<kLeft>(total + block * 4, quads);
        if (exchange.Channel() >= kLeft * kCore) continue;
      }
#pragma unroll
      for (int time = 0; time < QuadExchange::kTimes; ++time) {
        const int column = lane_.warp_column + exchange.Row(time);
        if (column >= tile.columns) continue;
        output_.Store(rows + (tile.column0 + column) * output_.stride + block * kCore, first + block * kCore,
                      true, quads[time]);
      }
    }
  }

 private:
  const PlainRows<true>& output_;
  const Lane lane_;
  const Tile first_;
  float2 scales_;
};

template <class Shape>
class Completion<Shape, AddToResidual> {
  using Lane = WholeLane<Shape>;
  using Tile = WholeTile<Shape>;
  static constexpr int kTimes = QuadExchange::kTimes, kStep = QuadExchange::kBlocks;
  static constexpr int kSteps = Lane::kBlocks / kStep;
  static_assert(Shape::kRows == kSquareGroupWidth && Lane::kBlocks % kStep == 0);

 public:
  __device__ Completion(const AddToResidual& output, const WholeRing<Shape>& ring, const Tile& first)
      : output_(output), exchange_(ExchangeOfWarp(ring)) {
#pragma unroll
    for (int time = 0; time < kTimes; ++time) {
      const int column = lane_.warp_column + exchange_.Row(time);
      slots_[time] = column < first.columns ? output.slot_index[first.column0 + column] : kNoSlot;
    }
  }
  __device__ __forceinline__ void Begin() {}

  // The residual of all rows is asked for at once.
  __device__ __forceinline__ void Complete(const ProductArgs& args, const Tile& tile,
                                           const WholeRing<Shape>& ring, int inputs,
                                           float (&total)[Shape::kSums]) const {
    const int first = tile.RowInPart(lane_.half), m = first + exchange_.Channel();
    const int steps = max(0, min(kSteps, (args.rows - first) / QuadExchange::kChannels));
    const int row = tile.column0 + lane_.warp_column + exchange_.Row(0);
    const NormInput& next = output_.next;
    float* const residual = output_.residual + static_cast<std::int64_t>(row) * next.width + m;
    float4 old[kSteps][kTimes];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
#pragma unroll
      for (int time = 0; time < kTimes; ++time) {
        old[step][time] = {};
        if (slots_[time] != kNoSlot && step < steps)
          old[step][time] = LoadFresh4(residual + time * 4 * next.width + step * QuadExchange::kChannels);
      }
    }
    float squares[kSteps][kTimes];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float4 sums[kTimes];
      exchange_.Exchange<kStep>(total + step * kStep * 4, sums);
      // The bias and the next norm's weight, of each half.
      constexpr int kStepsOfHalf = Shape::kHalfBlocks / kStep;
      const float* const given = ring.Inputs(inputs, lane_.half + step / kStepsOfHalf) +
                                 step % kStepsOfHalf * QuadExchange::kChannels + exchange_.Channel();
      const float4 weight = Load4(given + Shape::kHalfRows);
#pragma unroll
      for (int time = 0; time < kTimes; ++time) {
        if (output_.bias != nullptr) sums[time] = AddEach(sums[time], Load4(given));
        const float4 value = AddEach(old[step][time], sums[time]);
        squares[step][time] = step < steps ? SumOfQuad(MultiplyEach(value, value)) : 0.0f;
        if (slots_[time] == kNoSlot || step >= steps) continue;
        const int at = step * QuadExchange::kChannels;
        *reinterpret_cast<float4*>(residual + time * 4 * next.width + at) = value;
        if (output_.kept.base != nullptr)
          __stcs(reinterpret_cast<float4*>(SlotData(output_.kept, slots_[time]) + m + at), value);
        StoreBf16(next.u + StepLayout{next.layout.row_blocks, kCore}.Index(row + time * 4, m + at),
                  MultiplyEach(value, weight));
      }
    }
    StoreSquares(ring, tile, first, squares);
  }

 private:
  // The tree of row_norm.cuh. A row's quads lie in eight lanes, of which lane i ends with the sum of time
  // i % 4, and of all steps.
  __device__ __forceinline__ void StoreSquares(const WholeRing<Shape>& ring, const Tile& tile, int m,
                                               float (&squares)[kSteps][kTimes]) const {
    const int lane = Lane::Lane();
    float sums[kSteps];
#pragma unroll
    for (int step = 0; step < kSteps; ++step) {
      float two[2];
#pragma unroll
      for (int i = 0; i < 2; ++i)
        two[i] = SumAndGive(squares[step][i * 2], squares[step][i * 2 + 1], lane % 2 != 0, 1);
      sums[step] = SumAndGive(two[0], two[1], lane / 2 % 2 != 0, 2);
      sums[step] = __fadd_rn(sums[step], __shfl_xor_sync(~0u, sums[step], 4));
    }
#pragma unroll
    for (int count = kSteps / 2; count > 0; count /= 2) {
#pragma unroll
      for (int i = 0; i < count; ++i) sums[i] = __fadd_rn(sums[2 * i], sums[2 * i + 1]);
    }
    float sum = sums[0];
    const int column = lane_.warp_column + exchange_.Row(lane % kTimes);
    if constexpr (!Shape::kSplitsX) {                          // a warpgroup has a half
      hopper::NamedBarrier(kSquaresBarrier, Shape::kWorkers);  // the last tile's are read
      if (lane_.half == 1) ring.Squares()[column] = sum;
      hopper::NamedBarrier(kSquaresBarrier, Shape::kWorkers);
      if (lane_.half == 1) return;
      sum = __fadd_rn(sum, ring.Squares()[column]);
    }
    int slot = slots_[0];
#pragma unroll
    for (int time = 1; time < kTimes; ++time) {
      if (lane % kTimes == time) slot = slots_[time];
    }
    if (slot == kNoSlot || m >= output_.next.width || lane % 8 >= kTimes) return;
    const int count = SquareSums(output_.next.width, kSquareGroupWidth);
    output_.next
        .square_sums[static_cast<std::int64_t>(tile.column0 + column) * count + m / kSquareGroupWidth] = sum;
  }

  // The sum of a value and that of the lane `mask` away: of `second` for lanes that are `later`, else of
  // `first`.
  static __device__ __forceinline__ float SumAndGive(float first, float second, bool later, int mask) {
    const float given = __shfl_xor_sync(~0u, later ? first : second, mask);
    return __fadd_rn(later ? second : first, given);
  }

  const AddToResidual& output_;
  const Lane lane_;
  const QuadExchange exchange_;
  int slots_[kTimes];  // of the rows that are exchanged
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_ROWS_CUH_
