// A pool of state slots for kernel tests: a tensor of each slot lies between other data, everything starts as
// a sentinel, and Rest() compares what no op may have touched.
#ifndef MAMBAD_TESTS_SUPPORT_SLOT_POOL_H_
#define MAMBAD_TESTS_SUPPORT_SLOT_POOL_H_

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <set>
#include <vector>

#include "kernels/base/slots.h"

namespace mambad::kernels {

class SlotPool {
 public:
  static constexpr float kSentinel = -98765.0f;

  SlotPool(std::int32_t slots, std::int64_t floats, float fill = kSentinel)
      : slots_(slots), floats_(floats), data_(slots * (floats + kBefore + kAfter), fill), before_(data_) {}

  SlotView View() {
    return {.base = reinterpret_cast<std::byte*>(data_.data()),
            .slot_stride_bytes = (floats_ + kBefore + kAfter) * std::int64_t{sizeof(float)},
            .layer_offset_bytes = kBefore * std::int64_t{sizeof(float)},
            .slots = slots_};
  }

  void Set(std::int32_t slot, const std::vector<float>& values) {
    std::copy_n(values.begin(), floats_, View().At(slot));
  }
  std::vector<float> Get(std::int32_t slot) {
    const float* begin = View().At(slot);
    return {begin, begin + floats_};
  }

  // True when nothing outside the tensors of `touched` differs from the sentinel.
  bool RestIsUntouched(const std::set<std::int32_t>& touched) const {
    const std::int64_t stride = floats_ + kBefore + kAfter;
    for (std::size_t i = 0; i < data_.size(); ++i) {
      const std::int64_t at = static_cast<std::int64_t>(i) % stride - kBefore;
      const bool inside = at >= 0 && at < floats_;
      if (inside && touched.contains(static_cast<std::int32_t>(i / stride))) continue;
      if (std::memcmp(&data_[i], &before_[i], sizeof(float)) != 0) return false;
    }
    return true;
  }

 private:
  static constexpr std::int64_t kBefore = 3;
  static constexpr std::int64_t kAfter = 2;

  std::int32_t slots_;
  std::int64_t floats_;
  std::vector<float> data_;
  std::vector<float> before_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_TESTS_SUPPORT_SLOT_POOL_H_
