// Sampler: from rows of logits to tokens, and the scoring of given tokens, as sampling.h says, with all the
// memory that this takes.
//
//   MAMBAD_ASSIGN_OR_RETURN(auto sampler, Sampler::Create(device, {.vocab = V, .stride = V, .rows_max = B}));
//   MAMBAD_RETURN_IF_ERROR(sampler->Sample(stream, {.logits = logits, .params = params, ...}));
//
// Sample and Score return when the results are there. They allocate nothing.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLER_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLER_H_

#include <cstddef>
#include <memory>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "kernels/device/stream.h"
#include "kernels/sampling/sampling.h"

namespace mambad::kernels {

// One thread at a time. Must not outlive its device.
class Sampler {
 public:
  // InvalidArgument for a shape out of range, ResourceExhausted when memory ("workspace") is refused.
  static absl::StatusOr<std::unique_ptr<Sampler>> Create(Device& device, const LogitsShape& shape);
  virtual ~Sampler() = default;
  Sampler(const Sampler&) = delete;
  Sampler& operator=(const Sampler&) = delete;

  // REQUIRES: a stream of the sampler's device. InvalidArgument before anything is written.
  absl::Status Sample(Stream& stream, const SampleArgs& args);
  absl::Status Score(Stream& stream, const ScoreArgs& args);

  // What the device's ledger holds for it.
  virtual std::size_t bytes() const = 0;

 protected:
  Sampler(Device& device, const LogitsShape& shape) : device_(device), shape_(shape) {}
  const LogitsShape& shape() const { return shape_; }

 private:
  static absl::StatusOr<std::unique_ptr<Sampler>> CreateOnCpu(Device& device, const LogitsShape& shape);
  static absl::StatusOr<std::unique_ptr<Sampler>> CreateOnGpu(Device& device, const LogitsShape& shape);

  // The arguments are checked and have rows.
  virtual absl::Status SampleRows(Stream& stream, const SampleArgs& args) = 0;
  virtual absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) = 0;

  Device& device_;
  LogitsShape shape_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLER_H_
