// WidePool: the fp32 forms of narrow states whose prompts are being read (engine/model/state_layout.h). Few,
// so prompts take turns; what a wide slot holds when it is taken is undefined.
//
// Threads and errors: as StatePool, which owns it.
#ifndef MAMBAD_ENGINE_SESSION_WIDE_POOL_H_
#define MAMBAD_ENGINE_SESSION_WIDE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/session/pool_slot.h"
#include "kernels/device/stream.h"

namespace mambad {

class WidePool;
using WideSlot = PoolSlot<WidePool>;

class WidePool {
 public:
  // The name of its addend in the device's memory ledger.
  static constexpr char kLedgerName[] = "prompt states";

  WidePool() = default;  // has no slots
  // `slots` may be 0. RESOURCE_EXHAUSTED when the device has no room.
  static absl::StatusOr<WidePool> Create(kernels::Device& device, uint32_t slots, size_t stride);
  WidePool(WidePool&&) = default;
  WidePool& operator=(WidePool&&) = default;
  ~WidePool();

  // REQUIRES: free() > 0. The pool stays where it is from the first one on.
  WideSlot Take();
  uint32_t slots() const { return slots_; }
  uint32_t free() const { return static_cast<uint32_t>(free_.size()); }
  std::byte* base() const { return buffer_.as<std::byte>(); }
  size_t stride() const { return stride_; }

 private:
  friend WideSlot;
  void Release(int32_t index) { free_.push_back(index); }

  kernels::DeviceBuffer buffer_;
  size_t stride_ = 0;
  uint32_t slots_ = 0;
  std::vector<int32_t> free_;  // the last one is handed out next
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_WIDE_POOL_H_
