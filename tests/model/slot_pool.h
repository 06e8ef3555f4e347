// State memory for tests of the model: a plain array of slots, zero unless told otherwise.
#ifndef MAMBAD_TESTS_MODEL_SLOT_POOL_H_
#define MAMBAD_TESTS_MODEL_SLOT_POOL_H_

#include <cstddef>
#include <cstring>
#include <span>

#include "engine/model/state_layout.h"
#include "tests/support/test_device.h"

namespace mambad {

class SlotPool {
 public:
  SlotPool(const StateLayout& layout, int32_t slots)
      : layout_(layout),
        memory_(layout.stride * static_cast<size_t>(slots)),
        wide_(layout.wide_stride * static_cast<size_t>(slots)),
        slots_(slots) {}

  // With as many wide slots, of a narrow state.
  StateView view() {
    return {memory_.data(), layout_.stride,      slots_,
            wide_.data(),   layout_.wide_stride, layout_.narrow() ? slots_ : 0};
  }
  // The slot's own bytes, without the padding behind them.
  std::span<std::byte> slot(int32_t index) {
    return {memory_.data() + index * layout_.stride, layout_.bytes};
  }
  std::span<std::byte> all() { return memory_; }

  void Zero(int32_t index) { std::memset(slot(index).data(), 0, layout_.bytes); }
  void Fill(int32_t index, unsigned char byte) { std::memset(slot(index).data(), byte, layout_.bytes); }
  void Copy(int32_t from, int32_t to) { std::memcpy(slot(to).data(), slot(from).data(), layout_.bytes); }

 private:
  StateLayout layout_;
  TestVector<std::byte> memory_;
  TestVector<std::byte> wide_;
  int32_t slots_;
};

}  // namespace mambad

#endif  // MAMBAD_TESTS_MODEL_SLOT_POOL_H_
