// LaunchOrder: what the caller of Model::Launch promises and no kernel can check: a broken promise would be a
// token that nobody drew.
//
// Threads: one at a time.
#ifndef MAMBAD_ENGINE_MODEL_LAUNCH_ORDER_H_
#define MAMBAD_ENGINE_MODEL_LAUNCH_ORDER_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "engine/schedule/batch.h"
#include "kernels/base/check.h"

namespace mambad {

class LaunchOrder {
 public:
  // Checks the next launch. REQUIRES: one task a row, slots not negative.
  void Follow(const Batch& batch) {
    CheckStops(batch);
    for (size_t row = 0; row < batch.decode_slots.size(); ++row) {
      uint64_t& drawn_by = DrawnBy(batch.decode_slots[row]);
      // Only the launch before may have drawn it, and of this one's rows each has a slot of its own.
      if (batch.decode_tokens[row] == kDrawnToken) MAMBAD_CHECK(launches_ > 0 && drawn_by == launches_);
      drawn_by = batch.logits[row].sampling != nullptr ? launches_ + 1 : 0;
    }
    ++launches_;
  }

 private:
  static void CheckStops(const Batch& batch) {
    const std::vector<uint32_t>& offsets = batch.stop_offsets;
    if (offsets.empty()) {
      MAMBAD_CHECK(batch.stops.empty());
      return;
    }
    MAMBAD_CHECK(offsets.size() == batch.decode_slots.size() + 1);
    MAMBAD_CHECK(offsets.front() == 0 && offsets.back() == batch.stops.size());
    MAMBAD_CHECK(std::ranges::is_sorted(offsets));
  }
  uint64_t& DrawnBy(int32_t slot) {
    const auto index = static_cast<size_t>(slot);
    if (index >= drawn_by_.size()) drawn_by_.resize(index + 1);
    return drawn_by_[index];
  }

  uint64_t launches_ = 0;
  std::vector<uint64_t> drawn_by_;  // by slot: the launch that drew for it, counted from 1; 0: none
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_LAUNCH_ORDER_H_
