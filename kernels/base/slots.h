// Where one layer's recurrent state lies inside every slot of the state pool.
//
// Layouts inside a slot (lanes are channels, so channels are contiguous):
//   convolution window  (K-1, D) fp32, or bf16 for the fused kernels, time-major, oldest first
//   SSM state           (N, D)   fp32 or bf16, state index major
#ifndef MAMBAD_KERNELS_BASE_SLOTS_H_
#define MAMBAD_KERNELS_BASE_SLOTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/dtype.h"
#include "kernels/base/host_device.h"

namespace mambad::kernels {

// A row or chunk with this slot reads and writes nothing.
inline constexpr std::int32_t kNoSlot = -1;

// What every slot that holds a narrow (bf16) SSM state begins with: what the rounding of that state depends
// on. A copied slot goes on with it; an empty one's is zero.
struct RoundingKey {
  std::uint64_t seed = 0;
  std::uint64_t position = 0;  // tokens that the slot has consumed
};

struct SlotView {
  std::byte* base = nullptr;            // the pool, in device memory
  std::int64_t slot_stride_bytes = 0;   // a multiple of 4 (of 16 for the fused kernels)
  std::int64_t layer_offset_bytes = 0;  // of this tensor of this layer inside a slot; a multiple of 4
  std::int32_t slots = 0;               // S
  std::uint16_t layer = 0;              // of a narrow state: whose rounding it takes part in
  DType dtype = DType::kF32;            // or kBf16; where a state's is, slots begin with a RoundingKey

  MAMBAD_HOST_DEVICE std::byte* Slot(std::int32_t slot) const { return base + slot * slot_stride_bytes; }
  MAMBAD_HOST_DEVICE float* At(std::int32_t slot) const {
    return reinterpret_cast<float*>(Slot(slot) + layer_offset_bytes);
  }
  MAMBAD_HOST_DEVICE std::uint16_t* Bf16At(std::int32_t slot) const {
    return reinterpret_cast<std::uint16_t*>(Slot(slot) + layer_offset_bytes);
  }
  MAMBAD_HOST_DEVICE RoundingKey& KeyAt(std::int32_t slot) const {
    return *reinterpret_cast<RoundingKey*>(Slot(slot));
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_SLOTS_H_
