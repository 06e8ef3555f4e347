// The states that a warp of the kernels for all layers steps: 16 channels of a row, of which lane l has
// channels l / 4 and l / 4 + 8 and every fourth state index.
#ifndef MAMBAD_KERNELS_MAMBA_LAYER_STACK_CHANNELS_CUH_
#define MAMBAD_KERNELS_MAMBA_LAYER_STACK_CHANNELS_CUH_

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/mamba_layer/handover.cuh"
#include "kernels/mamba_layer/stack_args.cuh"

namespace mambad::kernels {

struct StackChannels {
  static constexpr int kPerLane = kStackStateSize / 4;

  float* at;  // of the states; null: there is nothing to step
  float h[2][kPerLane], decay[2][kPerLane], skip[2], dt_bias[2];

  // Of a layer and slot, from the lane's first channel `c` on.
  __device__ __forceinline__ void Load(const StackArgs& args, const StackLayer& layer, int slot, int c) {
    const int first = static_cast<int>(threadIdx.x % 4) * args.channels + c;
    const auto load = [&](const float* from, float(&values)[2][kPerLane]) {
#pragma unroll
      for (int i = 0; i < 2; ++i) {
#pragma unroll
        for (int j = 0; j < kPerLane; ++j) values[i][j] = __ldcs(from + 4 * j * args.channels + 8 * i);
      }
    };
    if (slot != kNoSlot) {
      SlotView view = args.state;
      view.layer_offset_bytes = layer.state_offset_bytes;
      at = view.At(slot) + first;
      load(at, h);
    }
    load(layer.decay_log2 + first, decay);
#pragma unroll
    for (int i = 0; i < 2; ++i) skip[i] = layer.skip[c + 8 * i], dt_bias[i] = layer.dt_bias[c + 8 * i];
  }

  __device__ __forceinline__ void Store(const StackArgs& args, const float (&next)[2][kPerLane]) const {
    if (at == nullptr) return;
#pragma unroll
    for (int i = 0; i < 2; ++i) {
#pragma unroll
      for (int j = 0; j < kPerLane; ++j) __stcs(at + 4 * j * args.channels + 8 * i, next[i][j]);
    }
  }
};

// x and gate of both channels, as in_proj hands them over.
struct StackInputs {
  std::uint16_t x[2], gate[2];

  // `element`: of the first channel; `next`: from there to the second.
  __device__ __forceinline__ void Load(const std::uint16_t* all_x, const std::uint16_t* all_gate, int element,
                                       int next) {
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      x[i] = LoadHanded2(all_x + element + i * next);
      gate[i] = LoadHanded2(all_gate + element + i * next);
    }
  }
  // Those that have been asked for once.
  __device__ __forceinline__ void Await(const std::uint16_t* all_x, const std::uint16_t* all_gate,
                                        int element, int next) {
    Patience patience;
    while (x[0] == kAbsent16 || x[1] == kAbsent16 || gate[0] == kAbsent16 || gate[1] == kAbsent16) {
      Load(all_x, all_gate, element, next);
      patience.Spend();
    }
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_MAMBA_LAYER_STACK_CHANNELS_CUH_
