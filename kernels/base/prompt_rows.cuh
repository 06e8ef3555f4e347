// What a kernel of the prompt path knows about the packed tokens of a call.
#ifndef MAMBAD_KERNELS_BASE_PROMPT_ROWS_CUH_
#define MAMBAD_KERNELS_BASE_PROMPT_ROWS_CUH_

#include <cuda_bf16.h>

#include <cstdint>

#include "kernels/base/slots.h"
#include "kernels/base/token_tiles.h"

namespace mambad::kernels {

// One token. Tokens outside every chunk, or in a chunk without a slot, have kNoSlot.
struct TokenPlace {
  std::int32_t slot;
  std::int32_t position;  // in its chunk
  // Where its B and C lie: chunks start at multiples of kBcAlign there, so that tiles of them are aligned.
  std::int32_t bc_row;
  std::int32_t unused;
};

inline constexpr std::int32_t kBcAlign = 32;

__host__ __device__ constexpr std::int64_t BcStart(std::int64_t offset, std::int64_t chunk) {
  return offset / kBcAlign * kBcAlign + chunk * kBcAlign;
}

// A layer's tensor in the slots (SlotView for the device).
struct DeviceSlots {
  char* first;
  std::int64_t stride;

  explicit DeviceSlots(const SlotView& view)
      : first(reinterpret_cast<char*>(view.base) + view.layer_offset_bytes), stride(view.slot_stride_bytes) {}
  __device__ float* At(std::int32_t slot) const { return reinterpret_cast<float*>(first + slot * stride); }
  __device__ __nv_bfloat16* Bf16At(std::int32_t slot) const {
    return reinterpret_cast<__nv_bfloat16*>(first + slot * stride);
  }
};

// Eight channels of a token.
struct alignas(16) Bf16x8 {
  __nv_bfloat162 pair[4];
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_PROMPT_ROWS_CUH_
