// The second part of row_stack.cuh: dt_proj, the state step and the gate.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_STATES_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_STATES_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/mamba_layer/row_stack_part.cuh"
#include "kernels/mamba_layer/stack_channels.cuh"
#include "kernels/mamba_layer/state_row.cuh"

namespace mambad::kernels {

// A warp adds up a group of x_proj's segments for all, and then steps 16 channels.
class RowStackStates : RowStackPart {
 public:
  __device__ __forceinline__ RowStackStates(unsigned char* shared, Static& statics, int block)
      : RowStackPart(shared, statics, block),
        channel_(block_ * Shape::kStateChannels + warp_ * 16 + lane_ / 4) {}

  __device__ __forceinline__ void Run() {
    Load(0);
    WaitForPreviousKernel();
    ForEachLayer(args_.layers, [&] {
      StackInputs inputs;
      TakeDtBC(inputs);
      Step(inputs);
      if (!Last()) Load(layer_ + 1);
    });
  }

 private:
  static constexpr int kN = kStackStateSize, kPerLane = kN / 4;
  static constexpr int kDtSteps = kChunkK / 16;  // of dt_proj: R is up to 64

  __device__ __forceinline__ void Load(int layer) {
    const StackLayer& w = LayerAt(layer);
    channels_.Load(args_, w, args_.slot_index[0], channel_);
    constexpr int kMatrix = kCore * kCore, kRowBlock = kCore * kChunkK;
    const std::uint16_t* const from =
        w.products[kDtProj] + WeightIndex(channel_ - lane_ / 4, 0, args_.plans.of[kDtProj].k_pad) + lane_ * 2;
#pragma unroll
    for (int i = 0; i < kDtSteps; ++i) {
#pragma unroll
      for (int j = 0; j < 4; ++j)
        dt_proj_[i][j] = __ldcs(reinterpret_cast<const std::uint32_t*>(from + i * (2 * kMatrix) +
                                                                       j % 2 * kRowBlock + j / 2 * kMatrix));
    }
  }

  // dt, B and C, for each warp; x and gate are asked for when those are there.
  __device__ __forceinline__ void TakeDtBC(StackInputs& inputs) {
    const int width = args_.rank + 2 * kN, groups = args_.channels / kFoldGroupChannels;
    const int first = lane_ * kQuad;
    float4* const sums = reinterpret_cast<float4*>(statics_.groups[layer_ % 2][0]) + lane_;
    constexpr int kStride = kFoldStride / kQuad;
    if (warp_ < groups) {
      const bool wants = first < width;  // what is handed over ends with sixteen rows of x_proj
      const float* const from = args_.folded.At(place_) + warp_ * (kFoldGroup * kFoldStride) + first;
      uint4 v[kFoldGroup];
      Await(
          v, [&](int i) { return from + i * kFoldStride; }, [&](int) { return wants; });
      float4 sum = FloatsOf(v[0]);
#pragma unroll
      for (int s = 1; s < kFoldGroup; ++s) sum = AddEach(sum, FloatsOf(v[s]));
      if (wants) sums[warp_ * kStride] = sum;
    }
    inputs.Load(args_.x.At(place_), args_.gate.At(place_), channel_, kCore);
    hopper::NamedBarrier(1, Shape::kWarps * 32);
    float4 total = sums[0];
#pragma unroll
    for (int g = 1; g < kMostFoldGroups; ++g) {
      if (g < groups) total = AddEach(total, sums[g * kStride]);
    }
    float4 dt = {};
#pragma unroll
    for (int i = 0; i < kQuad; ++i) At(dt, i) = first + i < args_.rank ? At(total, i) : 0.0f;
    StoreBf16(statics_.dt[warp_] + first, dt);
    *reinterpret_cast<float4*>(statics_.dt_bc[warp_] + first) = total;
    __syncwarp();
  }

  __device__ __forceinline__ void Step(StackInputs& inputs) {
    const int n0 = lane_ % 4;
    float sum[4] = {};  // every column of B is this row
    const std::uint16_t* const dt = statics_.dt[warp_] + n0 * 2;
#pragma unroll
    for (int i = 0; i < kDtSteps; ++i) {
      if (i * 16 < args_.rank)
        hopper::Mma(sum, dt_proj_[i], *reinterpret_cast<const std::uint32_t*>(dt + i * 16),
                    *reinterpret_cast<const std::uint32_t*>(dt + i * 16 + 8));
    }
    const float* const from = statics_.dt_bc[warp_] + args_.rank + n0;
    float b[kPerLane], c[kPerLane];
#pragma unroll
    for (int j = 0; j < kPerLane; ++j) b[j] = from[4 * j], c[j] = from[kN + 4 * j];
    inputs.Await(args_.x.At(place_), args_.gate.At(place_), channel_, kCore);
    float next_h[2][kPerLane];
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const float y = StepChannel(SoftplusApprox(__fadd_rn(sum[2 * i], channels_.dt_bias[i])),
                                  WidenedBf16(inputs.x[i]), WidenedBf16(inputs.gate[i]), channels_.skip[i],
                                  channels_.decay[i], channels_.h[i], b, c, next_h[i]);
      // Two channels a word: a word that is half there would look whole.
      const std::uint32_t own = __bfloat16_as_ushort(__float2bfloat16_rn(y));
      const std::uint32_t word = own | __shfl_down_sync(~0u, own, 4) << 16;
      if (lane_ % 8 == 0) *Word(place_, i) = word;
    }
    DelayAtRandom<DelayAt::kHandover, 2>();
    if (lane_ % 8 == 0) *Word(before_, 0) = *Word(before_, 1) = kAbsent;
    channels_.Store(args_, next_h);
  }
  __device__ __forceinline__ std::uint32_t* Word(int place, int i) const {
    return reinterpret_cast<std::uint32_t*>(args_.y.At(place) + channel_ + i * kCore);
  }

  const int channel_;  // the lane's first
  StackChannels channels_ = {};
  std::uint32_t dt_proj_[kDtSteps][4] = {};
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_ROW_STACK_STATES_CUH_
