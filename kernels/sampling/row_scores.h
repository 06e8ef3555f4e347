// What is read off a raw row of logits: its maximum, log-probabilities, the likeliest tokens, a token's rank.
#ifndef MAMBAD_KERNELS_SAMPLING_ROW_SCORES_H_
#define MAMBAD_KERNELS_SAMPLING_ROW_SCORES_H_

#include <cstdint>
#include <span>

#include "kernels/sampling/sampling.h"
#include "kernels/sampling/sampling_cpu.h"

namespace mambad::kernels {

// log-softmax of one row: logprob(l) = l - max - log(sum).
class LogSoftmax {
 public:
  LogSoftmax(const RowKernels& kernels, std::span<const float> row, float max);

  float Of(float logit) const { return static_cast<float>((static_cast<double>(logit) - max_) - log_sum_); }

 private:
  double max_;
  double log_sum_;
};

// The min(n, V) largest logits, ties to the lowest id, with their log-probabilities.
void FindTop(const RowKernels& kernels, std::span<const float> row, const LogSoftmax& softmax, std::int32_t n,
             TopLogprobs& top);

// 1 + the number of tokens before `target` in that order.
std::int32_t RankOf(std::span<const float> row, std::int32_t target);

TokenScore ScoreRow(const RowKernels& kernels, std::span<const float> row, std::int32_t target,
                    std::int32_t top_logprobs);

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_ROW_SCORES_H_
