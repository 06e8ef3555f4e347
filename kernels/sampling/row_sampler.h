// The choice of one token from one row of logits.
#ifndef MAMBAD_KERNELS_SAMPLING_ROW_SAMPLER_H_
#define MAMBAD_KERNELS_SAMPLING_ROW_SAMPLER_H_

#include <cstddef>
#include <cstdint>
#include <span>

#include "kernels/sampling/prefix_select.h"
#include "kernels/sampling/sampling.h"
#include "kernels/sampling/sampling_cpu.h"

namespace mambad::kernels {

struct RowRequest {
  std::span<const float> logits;
  const SamplingParams& params;
  const SamplingKey& key;
  std::span<const LogitBias> logit_bias;
  std::span<const TokenCount> token_counts;
  std::span<const std::int32_t> suppressed;
};

// One worker's memory, laid out in caller's scratch.
class RowSampler {
 public:
  static std::size_t ScratchBytes(std::int64_t vocab);

  // REQUIRES: `scratch` has ScratchBytes(vocab) bytes and is 64-byte aligned; both outlive the sampler.
  RowSampler(const RowKernels& kernels, std::int64_t vocab, std::byte* scratch);

  // REQUIRES: request.logits.size() == vocab.
  SampledToken Sample(const RowRequest& request);

 private:
  std::span<const float> Adjust(const RowRequest& request);
  std::int32_t Largest(std::span<const float> row, float max) const;
  std::int32_t Draw(std::span<const float> row, float max, const SamplingParams& params, double uniform);
  std::int32_t DrawUnfiltered(double target) const;
  std::span<Candidate> Gather(std::span<const float> row, float key_bound, float weight_bound);
  float TopKBound(std::int64_t k);

  const RowKernels& kernels_;
  std::int64_t vocab_;
  std::int64_t blocks_;
  float* adjusted_;    // (V)
  float* weights_;     // (V)
  float* block_max_;   // of the row that is sampled from
  float* block_sums_;  // of weights_
  float* block_work_;
  Candidate* candidates_;  // (V)
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_ROW_SAMPLER_H_
