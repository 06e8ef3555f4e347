// Checks that every op with slots and packed chunks makes before it touches anything.
#ifndef MAMBAD_KERNELS_BASE_SLOT_CHECKS_H_
#define MAMBAD_KERNELS_BASE_SLOT_CHECKS_H_

#include <cstdint>
#include <string_view>

#include "absl/status/status.h"
#include "kernels/base/slots.h"
#include "kernels/device/stream.h"

namespace mambad::kernels {

// `op` begins every message. Slots must be in [0, S) or kNoSlot; that they are distinct is the caller's
// promise. On a GPU the arrays are in device memory, so their entries are the caller's promise too.
absl::Status CheckSlots(std::string_view op, const Stream& stream, const SlotView& view,
                        const std::int32_t* slot_index, std::int64_t count);

// offsets[0] >= 0 and ascending; `chunks` + 1 of them.
absl::Status CheckOffsets(std::string_view op, const Stream& stream, const std::int64_t* offsets,
                          std::int64_t chunks);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BASE_SLOT_CHECKS_H_
