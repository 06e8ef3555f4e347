// The arguments of narrow_state, apart from the op so that CUDA files need not read Abseil. Open
// narrow_state.h first.
#ifndef MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_ARGS_H_
#define MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_ARGS_H_

#include <cstdint>

#include "kernels/base/slots.h"

namespace mambad::kernels {

// One tensor of all layers, of several slots, in both forms.
struct NarrowStateArgs {
  SlotView narrow;                       // (N, D) bf16 of layer 0 per slot
  std::int64_t narrow_layer_stride = 0;  // bytes from layer to layer; a multiple of 2
  SlotView wide;                         // (N, D) fp32 of layer 0 per wide slot
  std::int64_t wide_layer_stride = 0;    // bytes; a multiple of 4
  std::int64_t layers = 0;
  std::int64_t state_size = 0;                // N in [1, 256]
  std::int64_t channels = 0;                  // D >= 1
  std::int64_t rows = 0;                      // slots named
  const std::int32_t* narrow_slot = nullptr;  // (rows), distinct, or kNoSlot: nothing to do
  const std::int32_t* wide_slot = nullptr;    // (rows), distinct where narrow_slot names one
};

struct AdvanceKeysArgs {
  SlotView slots;  // of a narrow state; any layer
  std::int64_t rows = 0;
  const std::int32_t* slot_index = nullptr;  // (rows), distinct, or kNoSlot
  const std::int64_t* offsets = nullptr;  // (rows + 1): row i consumed offsets[i + 1] - offsets[i]; null: 1
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_NARROW_STATE_NARROW_STATE_ARGS_H_
