#include "kernels/base/slot_checks.h"

#include <string>

#include "absl/strings/str_cat.h"

namespace mambad::kernels {
namespace {

absl::Status Bad(std::string_view op, std::string_view what) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(op), ": ", std::string(what)));
}

}  // namespace

absl::Status CheckSlots(std::string_view op, const Stream& stream, const SlotView& view,
                        const std::int32_t* slot_index, std::int64_t count) {
  if (count == 0) return absl::OkStatus();
  if (slot_index == nullptr) return Bad(op, "slot_index is null");
  if (view.base == nullptr) return Bad(op, "the slots have no base");
  if (view.slot_stride_bytes < 0 || view.layer_offset_bytes < 0 ||
      (view.slot_stride_bytes | view.layer_offset_bytes) % alignof(float) != 0) {
    return Bad(op, "a slot stride or offset is negative or not a multiple of 4");
  }
  if (stream.on_gpu()) return absl::OkStatus();
  for (std::int64_t i = 0; i < count; ++i) {
    if (slot_index[i] != kNoSlot && (slot_index[i] < 0 || slot_index[i] >= view.slots)) {
      return Bad(op, absl::StrCat("slot_index[", i, "] is out of range"));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckOffsets(std::string_view op, const Stream& stream, const std::int64_t* offsets,
                          std::int64_t chunks) {
  if (chunks < 0) return Bad(op, "chunks is negative");
  if (chunks == 0) return absl::OkStatus();
  if (offsets == nullptr) return Bad(op, "offsets is null");
  if (stream.on_gpu()) return absl::OkStatus();
  if (offsets[0] < 0) return Bad(op, "offsets[0] is negative");
  for (std::int64_t i = 0; i < chunks; ++i) {
    if (offsets[i + 1] < offsets[i]) return Bad(op, absl::StrCat("offsets[", i + 1, "] descends"));
  }
  return absl::OkStatus();
}

}  // namespace mambad::kernels
