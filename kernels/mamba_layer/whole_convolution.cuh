// What becomes of a tile of in_proj by the whole product (whole_product.cuh). A warp puts the convolution's
// part of its sums into shared memory, as bf16 rows, and takes them eight channels a lane, rows one after
// another: so it reads and writes long pieces of the windows. x goes back there, and out by core matrices.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_CONVOLUTION_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_CONVOLUTION_CUH_

#include <cstdint>

#include "kernels/mamba_layer/product_outputs.cuh"
#include "kernels/mamba_layer/quad.cuh"
#include "kernels/mamba_layer/whole_ring.cuh"
#include "kernels/mamba_layer/whole_sums.cuh"

namespace mambad::kernels {

// `bias`: of kBlocks blocks, in shared memory.
template <int kBlocks>
__device__ __forceinline__ void AddBias(const float* bias, float* sums) {
  bias += threadIdx.x % 4 * 2;
#pragma unroll
  for (int block = 0; block < kBlocks; ++block) {
    const float2 add = *reinterpret_cast<const float2*>(bias + block * kCore);
#pragma unroll
    for (int i = 0; i < 4; ++i) {
      float& sum = sums[block * 4 + i];
      sum = __fadd_rn(sum, i % 2 == 0 ? add.x : add.y);
    }
  }
}

// Blocks `block` and `block` + 1 of kBlocks as bf16, for stmatrix; zeros behind the last.
template <int kBlocks, class Change>
__device__ __forceinline__ void PackTwoBlocks(const float* sums, int block, std::uint32_t (&pairs)[4],
                                              const Change& change) {
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    const float* const sum = sums + (block + i / 2) * 4 + i % 2 * 2;
    pairs[i] = block + i / 2 < kBlocks ? Bf16Bits(float2{change(sum[0]), change(sum[1])}) : 0;
  }
}

template <class Shape, bool kFolds>
class Completion<Shape, ConvAndGate<kFolds>> {
  using Lane = WholeLane<Shape>;
  using Tile = WholeTile<Shape>;
  using Output = ConvAndGate<kFolds>;
  static constexpr int kTaps = kMaxStepConvWidth - 1;
  static constexpr int kEights = Shape::kHalfBlocks;  // of a row's channels
  static constexpr int kRowBytes = Output::ExchangeRowBytes(Shape::kHalfRows);
  // A lane has one eight of every kRowsAtOnce-th row.
  static constexpr int kRowsAtOnce = 32 / kEights, kTimes = (16 + kRowsAtOnce - 1) / kRowsAtOnce;

 public:
  __device__ Completion(const Output& output, const WholeRing<Shape>& ring, const Tile& first)
      : output_(output), first_(first) {
    rows_ = SharedAddress(ring.Exchange()) + threadIdx.x / 32 * 16 * kRowBytes;
    const int column = lane_.warp_column + Lane::Lane() % 16;
    slot_ = column < first.columns ? output.slot_index[first.column0 + column] : kNoSlot;
  }
  __device__ __forceinline__ void Begin() { scales_ = ScalesOfSums(output_.norm, first_, lane_); }

  // The windows are asked for first, and there when the gate is done.
  __device__ __forceinline__ void Complete(const ProductArgs& args, const Tile& tile,
                                           const WholeRing<Shape>& ring, int inputs,
                                           float (&total)[Shape::kSums]) const {
    const int m = tile.RowInPart(0), eights = min(kEights, (Tile::PartRows(args) - m) / kCore);
    const int row = tile.column0 + lane_.warp_column;
    const bool has_x = Shape::kSplitsX || lane_.half == 0, has_gate = Shape::kSplitsX || lane_.half == 1;
    Windows windows;
    if (has_x) LoadWindows(m, eights, windows);
    ScaleSums(total, scales_);
    if (has_gate) {
      float* const sums = total + (Shape::kSplitsX ? kEights * 4 : 0);
      if (output_.bias != nullptr) AddBias<kEights>(ring.Inputs(inputs, 1), sums);
      StoreGate(row, m, eights, sums);
    }
    if (has_x) {
      const float* const given = ring.Inputs(inputs, 0);
      if (output_.bias != nullptr) AddBias<kEights>(given, total);
      StoreRows(total);
      Convolve(given + Shape::kHalfRows, windows);
      StoreX(row, m, eights);
    }
  }

 private:
  struct Windows {
    std::uint16_t* at[kTimes];  // null where the lane has no row or the row no slot
    uint4 taps[kTimes][kTaps];
  };

  static __device__ __forceinline__ int Eight() { return Lane::Lane() % kEights; }
  static __device__ __forceinline__ int Row(int time) { return Lane::Lane() / kEights + time * kRowsAtOnce; }
  __device__ __forceinline__ std::uint32_t InShared(int row, int eight) const {
    return rows_ + row * kRowBytes + eight * 16;
  }

  // Other loads take the rest of a line, which must not leave the L2 before.
  __device__ __forceinline__ void LoadWindows(int m, int eights, Windows& windows) const {
    const bool has = Lane::Lane() < kEights * kRowsAtOnce && Eight() < eights;
#pragma unroll
    for (int time = 0; time < kTimes; ++time) {
      const int slot = __shfl_sync(~0u, slot_, Row(time) % 16);
      const bool lives = has && Row(time) < 16 && slot != kNoSlot;
      windows.at[time] = lives ? output_.window.Bf16At(slot) + m + Eight() * kCore : nullptr;
#pragma unroll
      for (int tap = 0; tap < kTaps; ++tap) {
        windows.taps[time][tap] = {};
        if (lives && output_.TapOf(tap) >= 0)
          windows.taps[time][tap] = __ldcg(
              reinterpret_cast<const uint4*>(windows.at[time] + output_.TapOf(tap) * output_.channels));
      }
    }
  }

  // By way of the first of the warp's rows, two blocks at a time.
  __device__ __forceinline__ void StoreGate(int first_row, int m, int eights, const float* sums) const {
    const std::uint32_t exchange = rows_ + Lane::Lane() * 16;
    const int own = Lane::Lane() / 16;
    std::uint16_t* const gate = output_.gate + Layout().Index(first_row + Lane::Lane() % 16, 0);
#pragma unroll
    for (int block = 0; block < kEights; block += 2) {
      std::uint32_t pairs[4];
      PackTwoBlocks<kEights>(sums, block, pairs, [](float v) { return SiluApprox(v); });
      hopper::StoreMatrices(exchange, pairs);
      __syncwarp();
      const uint4 eight = hopper::LoadShared16(exchange);
      __syncwarp();
      if (slot_ != kNoSlot && block + own < eights)
        *reinterpret_cast<uint4*>(gate + Layout().Index(0, m + (block + own) * kCore)) = eight;
    }
  }

  __device__ __forceinline__ void StoreRows(const float* sums) const {
    const std::uint32_t to = InShared(Lane::Lane() % 16, Lane::Lane() / 16);
#pragma unroll
    for (int block = 0; block < kEights; block += 2) {
      std::uint32_t pairs[4];
      PackTwoBlocks<kEights>(sums, block, pairs, [](float v) { return v; });
      hopper::StoreMatrices(to + block * 16, pairs);
    }
    __syncwarp();
  }

  // `given`: where Input(1) begins.
  __device__ __forceinline__ void Convolve(const float* given, const Windows& windows) const {
    given += Eight() * kQuad;
#pragma unroll
    for (int time = 0; time < kTimes; ++time) {
      if (windows.at[time] == nullptr) continue;
      const std::uint32_t place = InShared(Row(time), Eight());
      const uint4 input = hopper::LoadShared16(place);
      hopper::StoreShared16(
          place, output_.template ConvolveEight<Shape::kHalfRows>(input, windows.taps[time], given));
      output_.Shift(windows.at[time], windows.taps[time], input);
    }
    __syncwarp();
  }

  __device__ __forceinline__ void StoreX(int first_row, int m, int eights) const {
    constexpr int kMatrices = kEights * 2;  // of 8 x 8
#pragma unroll
    for (int first = 0; first < kMatrices; first += 4) {
      const int matrix = first + Lane::Lane() / kCore, eight = matrix % kEights;
      const int row = matrix / kEights * kCore + Lane::Lane() % kCore;
      const bool lives = __shfl_sync(~0u, slot_, row % 16) != kNoSlot;
      if (matrix >= kMatrices || !lives || eight >= eights) continue;
      *reinterpret_cast<uint4*>(output_.x + Layout().Index(first_row + row, m + eight * kCore)) =
          hopper::LoadShared16(InShared(row, eight));
    }
    __syncwarp();
  }

  __device__ __forceinline__ StepLayout Layout() const { return {output_.layout.row_blocks, kCore}; }

  const Output& output_;
  const Lane lane_;
  const Tile first_;
  std::uint32_t rows_;  // of this warp, in shared memory
  int slot_;            // of row lane % 16
  float2 scales_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_WHOLE_CONVOLUTION_CUH_
