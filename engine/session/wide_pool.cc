#include "engine/session/wide_pool.h"

#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {

absl::StatusOr<WidePool> WidePool::Create(kernels::Device& device, uint32_t slots, size_t stride) {
  WidePool pool;
  if (slots == 0) return pool;
  MAMBAD_ASSIGN_OR_RETURN(pool.buffer_, device.Allocate(stride * slots, kLedgerName));
  pool.stride_ = stride;
  pool.slots_ = slots;
  pool.free_.reserve(slots);
  for (uint32_t i = slots; i > 0; --i) pool.free_.push_back(static_cast<int32_t>(i - 1));
  return pool;
}

WidePool::~WidePool() { MAMBAD_CHECK(buffer_.bytes() == 0 || free() == slots_); }

WideSlot WidePool::Take() {
  MAMBAD_CHECK(!free_.empty());
  const int32_t index = free_.back();
  free_.pop_back();
  return WideSlot(this, index);
}

}  // namespace mambad
