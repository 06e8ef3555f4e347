// Where one layer's recurrent state lies inside every slot of the state pool.
//
// Layouts inside a slot (lanes are channels, so channels are contiguous):
//   convolution window  (K-1, D) fp32, time-major, oldest first
//   SSM state           (N, D)   fp32, state index major
#ifndef MAMBAD_KERNELS_BASE_SLOTS_H_
#define MAMBAD_KERNELS_BASE_SLOTS_H_

#include <cstddef>
#include <cstdint>

#include "kernels/base/host_device.h"

namespace mambad::kernels {

// A row or chunk with this slot reads and writes nothing.
inline constexpr std::int32_t kNoSlot = -1;

struct SlotView {
  std::byte* base = nullptr;            // the pool, in device memory
  std::int64_t slot_stride_bytes = 0;   // a multiple of 4 (of 16 for the fused kernels)
  std::int64_t layer_offset_bytes = 0;  // of this tensor of this layer inside a slot; a multiple of 4
  std::int32_t slots = 0;               // S

  MAMBAD_HOST_DEVICE float* At(std::int32_t slot) const {
    return reinterpret_cast<float*>(base + slot * slot_stride_bytes + layer_offset_bytes);
  }
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_SLOTS_H_
