// StatePool: all recurrent state, allocated once on the model's device, with the wide slots of a narrow
// state. StateSlot: the exclusive right to one row of it, which gives itself back.
//
// Invariants: 1. used() + free() == slots(). 2. A slot is zero but for its seed, or a copy, when it is handed
// out. 3. Every slot is back when the pool dies (checked).
//
// Threads: one thread (the engine's); used() and the sizes may be read on any before and after it runs.
// Errors: a failed copy or fill means that the device is lost.
#ifndef MAMBAD_ENGINE_SESSION_STATE_POOL_H_
#define MAMBAD_ENGINE_SESSION_STATE_POOL_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/model/state_layout.h"
#include "engine/session/pool_slot.h"
#include "engine/session/wide_pool.h"
#include "kernels/device/stream.h"

namespace mambad {

class StatePool;
using StateSlot = PoolSlot<StatePool>;

class StatePool {
 public:
  // The name of its addend in the device's memory ledger.
  static constexpr char kLedgerName[] = "state pool";

  // How many slots of `layout` fit into `bytes` with the wide slots that go with them, at most kSlotsMax.
  static constexpr uint32_t kSlotsMax = kStateSlotsMax;
  static uint32_t SlotsThatFit(const StateLayout& layout, uint64_t bytes);

  // `poison`: released slots are filled with NaN, so that a read of freed state shows. RESOURCE_EXHAUSTED
  // when the device has no room. `device` must outlive the pool.
  static absl::StatusOr<std::unique_ptr<StatePool>> Create(kernels::Device& device, const StateLayout& layout,
                                                           uint32_t slots, bool poison);
  ~StatePool();
  StatePool(const StatePool&) = delete;
  StatePool& operator=(const StatePool&) = delete;

  // A zeroed slot, or a copy of `source`. `seed`: of the key of a narrow state (RoundingKey), else 0.
  // REQUIRES: free() > 0.
  absl::StatusOr<StateSlot> Allocate(uint64_t seed = 0);
  absl::StatusOr<StateSlot> AllocateCopy(const StateSlot& source);
  absl::Status Zero(const StateSlot& slot, uint64_t seed = 0);
  absl::Status Copy(const StateSlot& from, const StateSlot& to);
  // The slot's bytes, without the stride's padding.
  absl::StatusOr<std::vector<std::byte>> Read(const StateSlot& slot);
  // Returns when all copies and fills have finished; before the model runs.
  absl::Status Synchronize() { return stream_->Synchronize(); }

  StateView view() const;
  uint32_t slots() const { return slots_; }
  uint32_t free() const { return static_cast<uint32_t>(free_.size()); }
  uint32_t used() const { return slots_ - free(); }
  uint64_t slot_bytes() const { return stride_; }
  uint64_t bytes() const { return buffer_.bytes(); }
  // Without slots where no tensor is narrow.
  WidePool& wide() { return wide_; }
  const WidePool& wide() const { return wide_; }

 private:
  friend StateSlot;
  StatePool(std::unique_ptr<kernels::Stream> stream, kernels::DeviceBuffer buffer, WidePool wide,
            const StateLayout& layout, uint32_t slots, bool poison);

  StateSlot Take();
  void Release(int32_t index);
  std::byte* At(int32_t index) const { return buffer_.as<std::byte>() + index * stride_; }

  const std::unique_ptr<kernels::Stream> stream_;
  const kernels::DeviceBuffer buffer_;
  WidePool wide_;
  const size_t bytes_per_slot_;
  const size_t stride_;
  const uint32_t slots_;
  const bool poison_;
  std::vector<int32_t> free_;  // the last one is handed out next
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_STATE_POOL_H_
