#include "kernels/sampling/row_scores.h"

#include <algorithm>
#include <array>
#include <cmath>

namespace mambad::kernels {
namespace {

// Keeps `top` sorted: largest first, and an equal logit after those already there (ids come in ascending
// order).
void Insert(TopLogprobs& top, std::int32_t capacity, std::int32_t token, float logit) {
  std::int32_t at = top.count < capacity ? top.count++ : capacity - 1;
  for (; at > 0 && top.tokens[at - 1].logprob < logit; --at) top.tokens[at] = top.tokens[at - 1];
  top.tokens[at] = {token, logit};
}

}  // namespace

LogSoftmax::LogSoftmax(const RowKernels& kernels, std::span<const float> row, float max)
    : max_(max), log_sum_(std::log(kernels.weigh(row.data(), row.size(), max, 1.0f, nullptr, nullptr))) {}

void FindTop(const RowKernels& kernels, std::span<const float> row, const LogSoftmax& softmax, std::int32_t n,
             TopLogprobs& top) {
  constexpr std::int64_t kSegmentBlocks = 64;
  const std::int64_t vocab = row.size();
  const std::int32_t capacity = static_cast<std::int32_t>(std::min<std::int64_t>(n, vocab));
  std::array<float, kSegmentBlocks> block_max;
  top.count = 0;
  for (std::int64_t start = 0; start < vocab && capacity > 0; start += kRowBlock) {
    const std::int64_t block = start / kRowBlock % kSegmentBlocks;
    if (block == 0) {
      float ignored;
      kernels.max(row.data() + start, std::min(kSegmentBlocks * kRowBlock, vocab - start), block_max.data(),
                  &ignored);
    }
    if (top.count == capacity && !(block_max[block] > top.tokens[capacity - 1].logprob)) continue;
    const std::int64_t end = std::min(start + kRowBlock, vocab);
    for (std::int64_t i = start; i < end; ++i) {
      if (top.count < capacity || row[i] > top.tokens[capacity - 1].logprob) {
        Insert(top, capacity, static_cast<std::int32_t>(i), row[i]);
      }
    }
  }
  for (std::int32_t i = 0; i < top.count; ++i) top.tokens[i].logprob = softmax.Of(top.tokens[i].logprob);
}

std::int32_t RankOf(std::span<const float> row, std::int32_t target) {
  const float logit = row[target];
  std::int32_t before = 0;
  for (std::int32_t i = 0; i < target; ++i) before += row[i] >= logit ? 1 : 0;
  const std::int32_t vocab = static_cast<std::int32_t>(row.size());
  for (std::int32_t i = target + 1; i < vocab; ++i) before += row[i] > logit ? 1 : 0;
  return before + 1;
}

TokenScore ScoreRow(const RowKernels& kernels, std::span<const float> row, std::int32_t target,
                    std::int32_t top_logprobs) {
  TokenScore score;
  float max;
  score.finite = kernels.max(row.data(), row.size(), nullptr, &max);
  if (!score.finite) return score;
  const LogSoftmax softmax(kernels, row, max);
  score.logprob = softmax.Of(row[target]);
  score.rank = RankOf(row, target);
  score.is_greedy = score.rank == 1;
  FindTop(kernels, row, softmax, top_logprobs, score.top);
  return score;
}

}  // namespace mambad::kernels
