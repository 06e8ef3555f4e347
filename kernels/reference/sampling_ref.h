// The distribution that sampling draws from, the independent witness: sorts the whole row, in T.
#ifndef MAMBAD_KERNELS_REFERENCE_SAMPLING_REF_H_
#define MAMBAD_KERNELS_REFERENCE_SAMPLING_REF_H_

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <set>
#include <vector>

namespace mambad::reference {

struct SamplingSpec {
  double temperature = 1;
  double top_p = 1;
  double min_p = 0;
  double repetition_penalty = 1;
  double presence_penalty = 0;
  double frequency_penalty = 0;
  std::int64_t top_k = 0;
  std::map<int, double> logit_bias;
  std::map<int, int> output_counts;  // of every token of prompt or output; 0: prompt only
  std::set<int> suppressed;
};

// Token ids, largest logit first, ties to the lowest id.
template <class T>
std::vector<int> Order(const std::vector<T>& logits) {
  std::vector<int> order(logits.size());
  for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
  std::stable_sort(order.begin(), order.end(), [&](int a, int b) { return logits[a] > logits[b]; });
  return order;
}

template <class T>
struct Distribution {
  std::vector<T> probability;  // (V), 0 for what is not kept
  T margin;                    // the least distance of a top-p or min-p decision from its threshold, relative
};

// REQUIRES: at least one token is not suppressed.
template <class T>
Distribution<T> SamplingDistribution(const float* row, std::int64_t vocab, const SamplingSpec& spec) {
  std::vector<T> logits(row, row + vocab);
  for (const auto& [token, bias] : spec.logit_bias) logits[token] += bias;
  for (const auto& [token, count] : spec.output_counts) {
    T& logit = logits[token];
    logit = logit > 0 ? logit / spec.repetition_penalty : logit * spec.repetition_penalty;
    if (count > 0) logit -= spec.presence_penalty + spec.frequency_penalty * count;
  }
  for (const int token : spec.suppressed) logits[token] = -std::numeric_limits<T>::infinity();

  std::vector<int> kept = Order(logits);
  Distribution<T> result{std::vector<T>(vocab, T{0}), T{1}};
  if (spec.temperature == 0) {
    result.probability[kept[0]] = 1;
    return result;
  }
  if (spec.top_k > 0 && spec.top_k < vocab) kept.resize(spec.top_k);
  std::vector<T> weight(vocab);
  T total = 0;
  for (const int token : kept) {
    weight[token] = std::exp((logits[token] - logits[kept[0]]) / static_cast<T>(spec.temperature));
    total += weight[token];
  }
  if (spec.top_p < 1) {
    T mass = 0;
    std::size_t count = 0;
    while (count < kept.size()) {
      mass += weight[kept[count++]] / total;
      result.margin = std::min(result.margin, std::fabs(mass - static_cast<T>(spec.top_p)));
      if (mass >= spec.top_p) break;
    }
    kept.resize(count);
  }
  std::vector<int> final;
  for (const int token : kept) {
    if (spec.min_p > 0) {
      result.margin = std::min(result.margin, std::fabs(weight[token] / static_cast<T>(spec.min_p) - 1));
    }
    if (weight[token] >= spec.min_p) final.push_back(token);
  }
  T sum = 0;
  for (const int token : final) sum += weight[token];
  for (const int token : final) result.probability[token] = weight[token] / sum;
  return result;
}

// The token that a uniform draw picks: the first id, ascending, at which the running sum passes it.
template <class T>
int Pick(const std::vector<T>& probability, T uniform) {
  T sum = 0;
  int last = 0;
  for (std::size_t i = 0; i < probability.size(); ++i) {
    if (probability[i] <= 0) continue;
    last = static_cast<int>(i);
    sum += probability[i];
    if (sum > uniform) break;
  }
  return last;
}

template <class T>
std::vector<T> LogSoftmax(const float* row, std::int64_t vocab) {
  const T max = *std::max_element(row, row + vocab);
  T sum = 0;
  for (std::int64_t i = 0; i < vocab; ++i) sum += std::exp(row[i] - max);
  std::vector<T> result(vocab);
  for (std::int64_t i = 0; i < vocab; ++i) result[i] = row[i] - max - std::log(sum);
  return result;
}

}  // namespace mambad::reference

#endif  // MAMBAD_KERNELS_REFERENCE_SAMPLING_REF_H_
