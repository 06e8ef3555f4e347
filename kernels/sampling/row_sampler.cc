#include "kernels/sampling/row_sampler.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <limits>
#include <optional>

#include "kernels/math/philox.h"
#include "kernels/sampling/logit_adjust.h"
#include "kernels/sampling/row_scores.h"

namespace mambad::kernels {
namespace {

constexpr float kInfinity = std::numeric_limits<float>::infinity();

std::size_t Aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

Penalties PenaltiesOf(const SamplingParams& params) {
  return {params.repetition_penalty, params.presence_penalty, params.frequency_penalty};
}

// The first candidate at which the running sum of weights passes u * (their sum).
std::int32_t DrawFrom(std::span<const Candidate> candidates, double uniform) {
  double total = 0;
  for (const Candidate& candidate : candidates) total += candidate.weight;
  const double target = uniform * total;
  double sum = 0;
  std::int32_t last = candidates.front().token;
  for (const Candidate& candidate : candidates) {
    sum += candidate.weight;
    if (candidate.weight > 0) last = candidate.token;
    if (sum > target) break;
  }
  return last;
}

}  // namespace

std::size_t RowSampler::ScratchBytes(std::int64_t vocab) {
  return 2 * Aligned(vocab * sizeof(float)) + 3 * Aligned(RowBlocks(vocab) * sizeof(float)) +
         Aligned(vocab * sizeof(Candidate));
}

RowSampler::RowSampler(const RowKernels& kernels, std::int64_t vocab, std::byte* scratch)
    : kernels_(kernels), vocab_(vocab), blocks_(RowBlocks(vocab)) {
  const auto take = [&scratch](std::size_t bytes) {
    std::byte* part = scratch;
    scratch += Aligned(bytes);
    return part;
  };
  adjusted_ = reinterpret_cast<float*>(take(vocab * sizeof(float)));
  weights_ = reinterpret_cast<float*>(take(vocab * sizeof(float)));
  block_max_ = reinterpret_cast<float*>(take(blocks_ * sizeof(float)));
  block_sums_ = reinterpret_cast<float*>(take(blocks_ * sizeof(float)));
  block_work_ = reinterpret_cast<float*>(take(blocks_ * sizeof(float)));
  candidates_ = reinterpret_cast<Candidate*>(take(vocab * sizeof(Candidate)));
}

SampledToken RowSampler::Sample(const RowRequest& request) {
  const SamplingParams& params = request.params;
  const std::span<const float> raw = request.logits;
  SampledToken result;
  float max;
  result.finite = kernels_.max(raw.data(), vocab_, block_max_, &max);
  if (!result.finite) return result;

  std::optional<LogSoftmax> softmax;
  if (params.logprob || params.top_logprobs > 0) {
    softmax.emplace(kernels_, raw, max);
    FindTop(kernels_, raw, *softmax, params.top_logprobs, result.top);
  }
  const std::span<const float> row = Adjust(request);
  if (row.data() != raw.data()) kernels_.max(row.data(), vocab_, block_max_, &max);
  result.token = params.temperature == 0.0f
                     ? Largest(row, max)
                     : Draw(row, max, params,
                            UniformDraw(request.key.seed, request.key.token_index, request.key.candidate));
  if (softmax.has_value()) result.logprob = softmax->Of(raw[result.token]);
  return result;
}

// The row after steps 1 to 3 of sampling.h: the raw one where nothing changes it.
std::span<const float> RowSampler::Adjust(const RowRequest& request) {
  const Penalties penalties = PenaltiesOf(request.params);
  const bool penalize = penalties.Any() && !request.token_counts.empty();
  if (!penalize && request.logit_bias.empty() && request.suppressed.empty()) return request.logits;
  std::memcpy(adjusted_, request.logits.data(), vocab_ * sizeof(float));
  for (const LogitBias& bias : request.logit_bias) {
    adjusted_[bias.token] = Biased(adjusted_[bias.token], bias.bias);
  }
  if (penalize) {
    for (const TokenCount& count : request.token_counts) {
      adjusted_[count.token] = penalties.Apply(adjusted_[count.token], count.output_count);
    }
  }
  for (const std::int32_t token : request.suppressed) adjusted_[token] = -kInfinity;
  return {adjusted_, static_cast<std::size_t>(vocab_)};
}

std::int32_t RowSampler::Largest(std::span<const float> row, float max) const {
  const std::int64_t block = std::find(block_max_, block_max_ + blocks_, max) - block_max_;
  const auto from = row.begin() + block * kRowBlock;
  return static_cast<std::int32_t>(std::find(from, row.end(), max) - row.begin());
}

std::int32_t RowSampler::Draw(std::span<const float> row, float max, const SamplingParams& params,
                              double uniform) {
  const double total = kernels_.weigh(row.data(), vocab_, max, params.temperature, weights_, block_sums_);
  const bool use_top_k = params.top_k > 0 && params.top_k < vocab_;
  const bool use_top_p = params.top_p < 1.0f;
  if (!use_top_k && !use_top_p && params.min_p == 0.0f) return DrawUnfiltered(uniform * total);

  // Tokens under a bound cannot be kept. All tokens below w weigh less than V * w together, so those above
  // (1 - top_p) * total / V reach top_p without them; half of it leaves room for rounding.
  std::span<Candidate> kept;
  if (use_top_k) {
    kept = KeepCount(Gather(row, TopKBound(params.top_k), 0.0f), params.top_k);
  } else {
    const double tail = use_top_p ? 0.5 * (1.0 - params.top_p) * total / static_cast<double>(vocab_) : 0.0;
    kept = Gather(row, -kInfinity, use_top_p ? static_cast<float>(tail) : params.min_p);
  }
  if (use_top_p) {
    double mass = total;
    if (use_top_k) {
      mass = 0;
      for (const Candidate& candidate : kept) mass += candidate.weight;
    }
    kept = KeepMass(kept, static_cast<double>(params.top_p) * mass);
  }
  if (params.min_p > 0.0f) {
    // The largest weight is exp(0) = 1.
    const auto end = std::remove_if(kept.begin(), kept.end(), [&](const Candidate& candidate) {
      return candidate.weight < params.min_p;
    });
    kept = kept.first(end - kept.begin());
  }
  return DrawFrom(kept, uniform);
}

// As DrawFrom over the whole row, by way of the block sums.
std::int32_t RowSampler::DrawUnfiltered(double target) const {
  double sum = 0;
  std::int64_t chosen = 0;  // the block where the sum passes the target; rounding aside, there is one
  for (std::int64_t block = 0; block < blocks_; ++block) {
    if (block_sums_[block] > 0) chosen = block;
    if (sum + block_sums_[block] > target) break;
    sum += block_sums_[block];
  }
  const std::int64_t begin = chosen * kRowBlock;
  const std::int64_t end = std::min(begin + kRowBlock, vocab_);
  std::int64_t last = begin;
  for (std::int64_t i = begin; i < end; ++i) {
    sum += weights_[i];
    if (weights_[i] > 0) last = i;
    if (sum > target) break;
  }
  return static_cast<std::int32_t>(last);
}

// The tokens with row >= key_bound and weight >= weight_bound, in ascending order of id.
std::span<Candidate> RowSampler::Gather(std::span<const float> row, float key_bound, float weight_bound) {
  // A block whose sum is below the bound holds no weight that reaches it; the sum itself is rounded.
  const float sum_bound = 0.99f * weight_bound;
  std::size_t count = 0;
  for (std::int64_t block = 0; block < blocks_; ++block) {
    if (block_max_[block] < key_bound || block_sums_[block] < sum_bound) continue;
    const std::int64_t end = std::min((block + 1) * kRowBlock, vocab_);
    // Written always and counted when it stays: a branch here would be mispredicted half of the time.
    for (std::int64_t i = block * kRowBlock; i < end; ++i) {
      candidates_[count] = {OrderedKey(row[i]), static_cast<std::int32_t>(i), weights_[i]};
      count += static_cast<std::size_t>(row[i] >= key_bound) &
               static_cast<std::size_t>(weights_[i] >= weight_bound);
    }
  }
  return {candidates_, count};
}

// A lower bound of the k-th largest logit: the k-th largest of the blocks' maxima.
float RowSampler::TopKBound(std::int64_t k) {
  if (k > blocks_) return -kInfinity;
  std::copy(block_max_, block_max_ + blocks_, block_work_);
  std::nth_element(block_work_, block_work_ + (k - 1), block_work_ + blocks_, std::greater<float>());
  return block_work_[k - 1];
}

}  // namespace mambad::kernels
