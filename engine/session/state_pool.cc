#include "engine/session/state_pool.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"
#include "kernels/base/slots.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

// Every float of these bytes is a NaN, and so is every bfloat16.
constexpr uint8_t kPoison = 0xff;

}  // namespace

uint32_t StatePool::SlotsThatFit(const StateLayout& layout, uint64_t bytes) {
  auto slots = static_cast<uint32_t>(std::min<uint64_t>(kSlotsMax, bytes / layout.stride));
  while (slots > 0 && layout.PoolBytes(slots) > bytes) --slots;
  return slots;
}

absl::StatusOr<std::unique_ptr<StatePool>> StatePool::Create(kernels::Device& device,
                                                             const StateLayout& layout, uint32_t slots,
                                                             bool poison) {
  MAMBAD_CHECK(slots > 0 && slots <= kSlotsMax && layout.stride >= layout.bytes);
  MAMBAD_ASSIGN_OR_RETURN(auto stream, kernels::Stream::Create(device));
  MAMBAD_ASSIGN_OR_RETURN(auto buffer,
                          device.Allocate(layout.stride * slots, kLedgerName, kernels::Fill::kZero));
  MAMBAD_ASSIGN_OR_RETURN(WidePool wide,
                          WidePool::Create(device, layout.WideSlots(slots), layout.wide_stride));
  return std::unique_ptr<StatePool>(
      new StatePool(std::move(stream), std::move(buffer), std::move(wide), layout, slots, poison));
}

StatePool::StatePool(std::unique_ptr<kernels::Stream> stream, kernels::DeviceBuffer buffer, WidePool wide,
                     const StateLayout& layout, uint32_t slots, bool poison)
    : stream_(std::move(stream)),
      buffer_(std::move(buffer)),
      wide_(std::move(wide)),
      bytes_per_slot_(layout.bytes),
      stride_(layout.stride),
      slots_(slots),
      poison_(poison) {
  free_.reserve(slots);
  for (uint32_t i = slots; i > 0; --i) free_.push_back(static_cast<int32_t>(i - 1));
}

StatePool::~StatePool() { MAMBAD_CHECK(free() == slots_); }

StateSlot StatePool::Take() {
  MAMBAD_CHECK(!free_.empty());
  const int32_t index = free_.back();
  free_.pop_back();
  return StateSlot(this, index);
}

absl::StatusOr<StateSlot> StatePool::Allocate(uint64_t seed) {
  StateSlot slot = Take();
  MAMBAD_RETURN_IF_ERROR(Zero(slot, seed));
  return slot;
}

absl::StatusOr<StateSlot> StatePool::AllocateCopy(const StateSlot& source) {
  StateSlot slot = Take();
  MAMBAD_RETURN_IF_ERROR(Copy(source, slot));
  return slot;
}

absl::Status StatePool::Zero(const StateSlot& slot, uint64_t seed) {
  MAMBAD_RETURN_IF_ERROR(kernels::FillBytes(*stream_, At(slot.index()), 0, stride_));
  if (seed == 0) return absl::OkStatus();
  MAMBAD_CHECK(wide_.slots() > 0);  // else nothing is narrow, and no slot begins with a key
  const kernels::RoundingKey key = {.seed = seed};
  return kernels::CopyToDevice(*stream_, At(slot.index()), &key, sizeof(key));
}

absl::Status StatePool::Copy(const StateSlot& from, const StateSlot& to) {
  MAMBAD_CHECK(from.held() && to.held() && from.index() != to.index());
  return kernels::CopyOnDevice(*stream_, At(to.index()), At(from.index()), bytes_per_slot_);
}

absl::StatusOr<std::vector<std::byte>> StatePool::Read(const StateSlot& slot) {
  std::vector<std::byte> bytes(bytes_per_slot_);
  MAMBAD_RETURN_IF_ERROR(kernels::CopyToHost(*stream_, bytes.data(), At(slot.index()), bytes.size()));
  MAMBAD_RETURN_IF_ERROR(stream_->Synchronize());
  return bytes;
}

StateView StatePool::view() const {
  return {.base = buffer_.as<std::byte>(),
          .stride = stride_,
          .slots = static_cast<int32_t>(slots_),
          .wide_base = wide_.base(),
          .wide_stride = wide_.stride(),
          .wide_slots = static_cast<int32_t>(wide_.slots())};
}

void StatePool::Release(int32_t index) {
  // A device that is lost cannot poison; its slots are never used again.
  if (poison_) (void)kernels::FillBytes(*stream_, At(index), kPoison, stride_);
  free_.push_back(index);
}

}  // namespace mambad
