// StepFeed: the rows of a decode step on their way from the host to the place where the step's graph reads
// them, and the tokens drawn last, which complete rows that the host enqueues without having seen theirs
// (kDrawnToken; kernels/token_feed).
//
// Threads: one at a time. The device reads the host's side of a step until the step has finished: at most
// kStepsMax may be under way.
#ifndef MAMBAD_ENGINE_MODEL_STEP_FEED_H_
#define MAMBAD_ENGINE_MODEL_STEP_FEED_H_

#include <array>
#include <cstddef>
#include <cstdint>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/schedule/batch.h"
#include "kernels/device/stream.h"

namespace mambad {

class StepFeed {
 public:
  static constexpr int kStepsMax = 2;

  StepFeed() = default;
  // For steps of up to `rows` rows, a bucket, with up to `stops_per_row` stops each.
  static absl::StatusOr<StepFeed> Create(kernels::Device& device, int32_t rows, size_t stops_per_row);

  // Enqueues the decode rows of `batch`, and rows of kNoSlot up to `bucket`. REQUIRES: the batch fits, and
  // its slots are below kStateSlotsMax.
  absl::Status Enqueue(kernels::Stream& stream, const Batch& batch, int32_t bucket);

  // In device memory, (bucket).
  const uint32_t* tokens() const { return tokens_.as<uint32_t>(); }
  const int32_t* slots() const { return slots_.as<int32_t>(); }
  // (kStateSlotsMax), by slot: for the sampler to write.
  int32_t* drawn() const { return drawn_.as<int32_t>(); }

  size_t bytes() const { return tokens_.bytes() + slots_.bytes() + drawn_.bytes(); }

 private:
  // What the device reads of one step.
  struct HostSide {
    kernels::HostBuffer tokens;        // (rows)
    kernels::HostBuffer slots;         // (rows)
    kernels::HostBuffer stop_offsets;  // (rows + 1)
    kernels::HostBuffer stops;
  };

  std::array<HostSide, kStepsMax> steps_;
  int next_ = 0;  // of steps_
  kernels::DeviceBuffer tokens_;
  kernels::DeviceBuffer slots_;
  kernels::DeviceBuffer drawn_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_STEP_FEED_H_
