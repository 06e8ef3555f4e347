// State memory for tests of the model: a plain array of slots, zero unless told otherwise.
#ifndef MAMBAD_TESTS_MODEL_SLOT_POOL_H_
#define MAMBAD_TESTS_MODEL_SLOT_POOL_H_

#include <cstddef>
#include <cstring>
#include <new>
#include <span>
#include <vector>

#include "engine/model/state_layout.h"

namespace mambad {

class SlotPool {
 public:
  SlotPool(const StateLayout& layout, int32_t slots)
      : layout_(layout), memory_(layout.stride * static_cast<size_t>(slots) + kAlignment), slots_(slots) {}

  StateView view() { return {Base(), layout_.stride, slots_}; }
  // The slot's own bytes, without the padding behind them.
  std::span<std::byte> slot(int32_t index) { return {Base() + index * layout_.stride, layout_.bytes}; }
  std::span<std::byte> all() { return {Base(), layout_.stride * static_cast<size_t>(slots_)}; }

  void Zero(int32_t index) { std::memset(slot(index).data(), 0, layout_.bytes); }
  void Fill(int32_t index, unsigned char byte) { std::memset(slot(index).data(), byte, layout_.bytes); }
  void Copy(int32_t from, int32_t to) { std::memcpy(slot(to).data(), slot(from).data(), layout_.bytes); }

 private:
  static constexpr size_t kAlignment = 64;
  std::byte* Base() {
    const auto address = reinterpret_cast<uintptr_t>(memory_.data());
    return memory_.data() + (kAlignment - address % kAlignment) % kAlignment;
  }

  StateLayout layout_;
  std::vector<std::byte> memory_;
  int32_t slots_;
};

}  // namespace mambad

#endif  // MAMBAD_TESTS_MODEL_SLOT_POOL_H_
