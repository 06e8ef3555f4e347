// Sampler: from rows of logits to tokens, and the scoring of given tokens, as sampling.h says, with all the
// memory that this takes.
//
//   MAMBAD_ASSIGN_OR_RETURN(auto sampler, Sampler::Create(device, {.vocab = V, .stride = V, .rows_max = B}));
//   MAMBAD_RETURN_IF_ERROR(sampler->Sample(stream, {.logits = logits, .params = params, ...}));
//
// Sample and Score return when the results are there; Enqueue and Take are the halves of Sample, for callers
// that have something else to do in between. They allocate nothing.
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

  // REQUIRES: a stream of the sampler's device, and nothing waits to be taken. InvalidArgument before
  // anything is written.
  absl::Status Sample(Stream& stream, const SampleArgs& args);
  absl::Status Score(Stream& stream, const ScoreArgs& args);

  // Gives a draw to the stream; `args.results` is not used. `drawn` is for a GPU. Waits for the stream only
  // where the lists of all rows are longer than one launch takes. REQUIRES: fewer than kDrawsMax wait to be
  // taken.
  static constexpr int kDrawsMax = 2;
  absl::Status Enqueue(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn = {});
  // The results of the oldest draw, one a row. REQUIRES: the stream has finished it.
  void Take(std::span<SampledToken> results);

  // What the device's ledger holds for it.
  virtual std::size_t bytes() const = 0;

 protected:
  Sampler(Device& device, const LogitsShape& shape) : device_(device), shape_(shape) {}
  const LogitsShape& shape() const { return shape_; }

 private:
  static absl::StatusOr<std::unique_ptr<Sampler>> CreateOnCpu(Device& device, const LogitsShape& shape);
  static absl::StatusOr<std::unique_ptr<Sampler>> CreateOnGpu(Device& device, const LogitsShape& shape);

  // The arguments are checked and have rows. `draw` in [0, kDrawsMax) tells where its results wait.
  virtual absl::Status EnqueueRows(Stream& stream, const SampleArgs& args, const DrawnTokens& drawn,
                                   int draw) = 0;
  virtual void TakeRows(std::span<SampledToken> results, int draw) = 0;
  virtual absl::Status ScoreRows(Stream& stream, const ScoreArgs& args) = 0;

  Device& device_;
  LogitsShape shape_;
  int oldest_ = 0;   // draw that Take gives out next
  int waiting_ = 0;  // draws
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLER_H_
