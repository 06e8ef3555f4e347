// The passes over a row of logits, over a lane type.
#ifndef MAMBAD_KERNELS_SAMPLING_SAMPLING_LANES_H_
#define MAMBAD_KERNELS_SAMPLING_SAMPLING_LANES_H_

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kernels/math/exp.h"
#include "kernels/math/lanes.h"
#include "kernels/math/tree_sum.h"
#include "kernels/sampling/sampling_cpu.h"

namespace mambad::kernels {

// A whole block: the row's own memory, or a padded copy of its last, narrower block.
template <class V>
MAMBAD_LANE const float* WholeBlock(const float* block, std::int64_t width, float padding, float* copy) {
  if (width == kRowBlock) return block;
  for (std::int64_t i = 0; i < kRowBlock; ++i) copy[i] = i < width ? block[i] : padding;
  return copy;
}

template <class V>
bool RowMax(const float* row, std::int64_t vocab, float* block_max, float* max) {
  constexpr int kWays = 4;
  const V zero = V::Set(0.0f);
  V poison[kWays] = {zero, zero, zero, zero};  // x * 0 is NaN exactly for a NaN or an infinity
  float largest = row[0];
  float copy[kRowBlock];
  for (std::int64_t start = 0, block = 0; start < vocab; start += kRowBlock, ++block) {
    const std::int64_t width = std::min(kRowBlock, vocab - start);
    const float* x = WholeBlock<V>(row + start, width, row[start], copy);
    V m[kWays];
    for (int j = 0; j < kWays; ++j) m[j] = V::Load(x + j * V::kLanes);
    for (std::int64_t i = 0; i < kRowBlock; i += kWays * V::kLanes) {
      for (int j = 0; j < kWays; ++j) {
        const V v = V::Load(x + i + j * V::kLanes);
        m[j] = MaxNan(m[j], v);
        poison[j] = MulAdd(v, zero, poison[j]);
      }
    }
    float lanes[V::kLanes];
    MaxNan(MaxNan(m[0], m[1]), MaxNan(m[2], m[3])).Store(lanes);
    float here = lanes[0];
    for (int lane = 1; lane < V::kLanes; ++lane) here = lanes[lane] > here ? lanes[lane] : here;
    if (block_max != nullptr) block_max[block] = here;
    if (here > largest) largest = here;
  }
  *max = largest;
  float lanes[V::kLanes];
  ((poison[0] + poison[1]) + (poison[2] + poison[3])).Store(lanes);
  bool finite = true;
  for (int lane = 0; lane < V::kLanes; ++lane) finite = finite && lanes[lane] == 0.0f;
  return finite;
}

template <class V>
double RowWeigh(const float* row, std::int64_t vocab, float max, float temperature, float* w,
                float* block_sums) {
  const V shift = V::Set(max);
  const V divisor = V::Set(temperature);
  float copy[kRowBlock];
  float rest[kRowBlock];
  double total = 0;
  for (std::int64_t start = 0, block = 0; start < vocab; start += kRowBlock, ++block) {
    const std::int64_t width = std::min(kRowBlock, vocab - start);
    const float* x = WholeBlock<V>(row + start, width, -__builtin_inff(), copy);
    float* out = width == kRowBlock && w != nullptr ? w + start : rest;
    TreeSum<V> sum;
    for (std::int64_t i = 0; i < kRowBlock; i += kSumLanes) {
      for (int j = 0; j < TreeSum<V>::kVectors; ++j) {
        V scaled = V::Load(x + i + j * V::kLanes) - shift;
        if (temperature != 1.0f) scaled = scaled / divisor;
        const V weight = ExpNonPositive(scaled);
        weight.Store(out + i + j * V::kLanes);
        sum.Add(j, weight);
      }
    }
    if (w != nullptr && width != kRowBlock) std::memcpy(w + start, rest, width * sizeof(float));
    const float block_sum = sum.Total();
    if (block_sums != nullptr) block_sums[block] = block_sum;
    total += block_sum;
  }
  return total;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_SAMPLING_LANES_H_
