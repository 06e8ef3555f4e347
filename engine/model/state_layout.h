// StateSpec and StateLayout: what a slot holds and where. A slot is one contiguous block, so that copy, fork,
// zero and snapshot are one copy: where a tensor is narrow (bf16) the key that its rounding depends on, each
// layer's state as its mixer's StateSpecs declare it, then the last hidden row.
//
// A narrow tensor is rounded after each decoded token and at the end of a prompt, never inside one: while a
// prompt is read, its narrow tensors live in fp32 in a wide slot. Prompts wait for one, so there are few.
// An exact one is bf16 because all that it is ever given is: it has nothing of this.
#ifndef MAMBAD_ENGINE_MODEL_STATE_LAYOUT_H_
#define MAMBAD_ENGINE_MODEL_STATE_LAYOUT_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kernels/base/dtype.h"

namespace mambad {

// How a 2-d state tensor lies in the slot. Canonical shapes (snapshots, documentation) put channels first, as
// Hugging Face does; the CPU kernels step channels in lanes and so keep them last.
enum class StateOrder { kCanonical, kTransposed };

// A mixer's declaration of one tensor of its state, for one layer.
struct StateSpec {
  std::string name;                             // "conv_state", "ssm_state"
  std::vector<int64_t> shape;                   // canonical, per slot and layer: (D, K-1), (D, N)
  kernels::DType dtype = kernels::DType::kF32;  // or kBf16
  StateOrder order = StateOrder::kCanonical;
  bool exact = false;  // a bf16 one; else it is narrow: 2-d and kTransposed, at most one of a layer
};

// Where one StateSpec lies: layer l of it at slot + offset + l * layer_stride.
struct StateTensor {
  StateSpec spec;
  size_t offset = 0;
  size_t layer_stride = 0;
  int64_t n_layer = 0;
  size_t wide_layer_stride = 0;  // of a narrow one, in a wide slot

  bool narrow() const { return spec.dtype != kernels::DType::kF32 && !spec.exact; }
};

inline constexpr uint32_t kStateSlotsMax = 65536;  // of a pool

// One wide slot for so many slots, but at least so many: a tick reads a few prompts at a time.
inline constexpr uint32_t kSlotsPerWideSlot = 16;
inline constexpr uint32_t kWideSlotsMin = 4;
inline constexpr uint32_t kWideSlotsMax = 64;

struct StateLayout {
  std::vector<StateTensor> tensors;
  size_t last_hidden_offset = 0;  // (M) fp32: the residual row of the last consumed token
  int64_t d_model = 0;
  size_t bytes = 0;        // of one slot, without padding
  size_t stride = 0;       // from slot to slot: bytes rounded up to 64
  size_t wide_stride = 0;  // of wide slots; 0: no tensor is narrow

  bool narrow() const { return wide_stride > 0; }
  // The wide slots that a pool of `slots` has: prompts that may be in the midst of being read.
  uint32_t WideSlots(uint32_t slots) const {
    return narrow() ? std::min(slots, std::clamp(slots / kSlotsPerWideSlot, kWideSlotsMin, kWideSlotsMax))
                    : 0;
  }
  // Of a pool, wide slots included.
  uint64_t PoolBytes(uint32_t slots) const {
    return uint64_t{slots} * stride + uint64_t{WideSlots(slots)} * wide_stride;
  }
};

// The layout of n_layer layers that each hold `specs`: the key, if any, layer after layer, the specs in their
// order, then last_hidden.
StateLayout BuildStateLayout(std::span<const StateSpec> specs, int64_t n_layer, int64_t d_model);

// One tensor of a slot in host memory, stacked over layers in canonical order: (L, shape...). Exact both
// ways; what a bf16 tensor cannot hold is rounded to the nearest.
void ReadCanonical(const StateTensor& tensor, const std::byte* slot, float* canonical);
void WriteCanonical(const StateTensor& tensor, const float* canonical, std::byte* slot);

// The state memory of all slots, as the kernels see it. The pool owns it.
struct StateView {
  std::byte* base = nullptr;
  size_t stride = 0;
  int32_t slots = 0;
  // Likewise the wide slots, where a tensor is narrow.
  std::byte* wide_base = nullptr;
  size_t wide_stride = 0;
  int32_t wide_slots = 0;

  friend bool operator==(const StateView&, const StateView&) = default;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_STATE_LAYOUT_H_
