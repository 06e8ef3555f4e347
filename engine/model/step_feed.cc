#include "engine/model/step_feed.h"

#include <algorithm>

#include "engine/model/state_layout.h"
#include "kernels/base/check.h"
#include "kernels/base/slots.h"
#include "kernels/base/status_macros.h"
#include "kernels/token_feed/token_feed.h"

namespace mambad {

absl::StatusOr<StepFeed> StepFeed::Create(kernels::Device& device, int32_t rows, size_t stops_per_row) {
  StepFeed feed;
  const auto count = static_cast<size_t>(rows);
  for (HostSide& step : feed.steps_) {
    MAMBAD_ASSIGN_OR_RETURN(step.tokens, kernels::HostBuffer::Create(device, count * sizeof(uint32_t)));
    MAMBAD_ASSIGN_OR_RETURN(step.slots, kernels::HostBuffer::Create(device, count * sizeof(int32_t)));
    MAMBAD_ASSIGN_OR_RETURN(step.stop_offsets,
                            kernels::HostBuffer::Create(device, (count + 1) * sizeof(int32_t)));
    MAMBAD_ASSIGN_OR_RETURN(step.stops,
                            kernels::HostBuffer::Create(device, count * stops_per_row * sizeof(uint32_t)));
  }
  MAMBAD_ASSIGN_OR_RETURN(feed.tokens_, device.Allocate(count * sizeof(uint32_t), "workspace"));
  MAMBAD_ASSIGN_OR_RETURN(feed.slots_, device.Allocate(count * sizeof(int32_t), "workspace"));
  // For any pool: its size is known too late for those who ask what a model takes, and this is little.
  MAMBAD_ASSIGN_OR_RETURN(
      feed.drawn_, device.Allocate(kStateSlotsMax * sizeof(int32_t), "workspace", kernels::Fill::kZero));
  return feed;
}

absl::Status StepFeed::Enqueue(kernels::Stream& stream, const Batch& batch, int32_t bucket) {
  HostSide& step = steps_[next_];
  next_ = (next_ + 1) % kStepsMax;
  const size_t rows = batch.decode_slots.size();
  const auto padded = static_cast<size_t>(bucket);
  MAMBAD_CHECK(rows <= padded && padded * sizeof(int32_t) <= slots_.bytes());
  MAMBAD_CHECK(batch.stops.size() * sizeof(uint32_t) <= step.stops.bytes());
  std::fill(std::ranges::copy(batch.decode_tokens, step.tokens.as<uint32_t>()).out,
            step.tokens.as<uint32_t>() + padded, 0u);
  std::fill(std::ranges::copy(batch.decode_slots, step.slots.as<int32_t>()).out,
            step.slots.as<int32_t>() + padded, kernels::kNoSlot);
  // Only rows of kDrawnToken look at their stops; those behind the batch's are none.
  std::ranges::copy(batch.stops, step.stops.as<uint32_t>());
  if (batch.stop_offsets.empty()) {
    std::fill_n(step.stop_offsets.as<int32_t>(), rows + 1, 0);
  } else {
    std::ranges::copy(batch.stop_offsets, step.stop_offsets.as<int32_t>());
  }
  return kernels::FeedTokens(stream, {.tokens = step.tokens.as<uint32_t>(),
                                      .slots = step.slots.as<int32_t>(),
                                      .stop_offsets = step.stop_offsets.as<int32_t>(),
                                      .stops = step.stops.as<uint32_t>(),
                                      .drawn = drawn(),
                                      .row_tokens = tokens_.as<uint32_t>(),
                                      .row_slots = slots_.as<int32_t>(),
                                      .rows = bucket});
}

}  // namespace mambad
