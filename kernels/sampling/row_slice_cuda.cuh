// One CTA's part of a row of logits, and the walk over it that every pass shares.
//
// Each warp owns a region of consecutive tokens and walks it in steps of 128, four consecutive tokens a lane.
#ifndef MAMBAD_KERNELS_SAMPLING_ROW_SLICE_CUDA_CUH_
#define MAMBAD_KERNELS_SAMPLING_ROW_SLICE_CUDA_CUH_

#include <cstdint>

#include "kernels/sampling/prefix_select.h"
#include "kernels/sampling/row_group_cuda.cuh"

namespace mambad::kernels {

inline constexpr int kStepTokens = 128;

struct RowSlice {
  float* logits;  // of the tokens [begin, begin + size)
  int begin;
  int size;

  __device__ bool Has(int token) const { return token >= begin && token < begin + size; }
  __device__ float& At(int token) const { return logits[token - begin]; }
};

// Tokens per CTA and per warp; multiples of 4 and of kStepTokens.
__host__ __device__ inline std::int64_t SliceTokens(std::int64_t vocab, int ctas) {
  return ((vocab + ctas - 1) / ctas + 3) / 4 * 4;
}
__device__ inline int RegionTokens(int slice_size) {
  const int share = (slice_size + kRowWarps - 1) / kRowWarps;
  return (share + kStepTokens - 1) / kStepTokens * kStepTokens;
}

// The four logits from index `i` on of a slice, where they exist.
struct FourLogits {
  float4 v;
  int count;  // of those that exist: 4 except at the slice's end, maybe negative beyond it

  __device__ float operator[](int j) const { return j == 0 ? v.x : j == 1 ? v.y : j == 2 ? v.z : v.w; }
};

__device__ inline FourLogits LoadFour(const float* logits, int i, int size) {
  FourLogits four{{0, 0, 0, 0}, size - i};
  if (four.count >= 4) {
    four.v = *reinterpret_cast<const float4*>(logits + i);
    four.count = 4;
  } else {
    if (four.count > 0) four.v.x = logits[i];
    if (four.count > 1) four.v.y = logits[i + 1];
    if (four.count > 2) four.v.z = logits[i + 2];
  }
  return four;
}

// body(four, token) for each four of the calling warp's region, ascending; whole warps call it together.
template <class Body>
__device__ inline void ForEachFour(const RowSlice& slice, const RowGroup& group, Body body) {
  const int region = RegionTokens(slice.size);
  const int end = min((group.warp + 1) * region, slice.size);
  for (int base = group.warp * region; base < end; base += kStepTokens) {
    const int i = base + 4 * group.lane;
    body(LoadFour(slice.logits, i, slice.size), slice.begin + i);
  }
}

// body(logit, token) for each token of the calling thread.
template <class Body>
__device__ inline void ForEachLogit(const RowSlice& slice, const RowGroup& group, Body body) {
  ForEachFour(slice, group, [&](const FourLogits& four, int token) {
#pragma unroll
    for (int j = 0; j < 4; ++j) {
      if (j < four.count) body(four[j], token + j);
    }
  });
}

// The largest logit with the lowest id that has it, whether all are finite, and the least one if they are.
// Tokens come in ascending order of id.
class Extremes {
 public:
  __device__ void Add(float logit, int token) {
    if (logit > best_) {
      best_ = logit;
      id_ = token;
    }
    least_ = fminf(least_, logit);
    poison_ = __fmaf_rn(logit, 0.0f, poison_);  // NaN from an infinity or a NaN on
  }

  // Of the whole row.
  __device__ void Reduce(RowGroup& group) {
    constexpr std::uint32_t kAll = 0xffffffffu;
    const RowGroup::Top all =
        group.MaxAll({id_ < 0 ? 0u : OrderedKey(best_), id_ < 0 ? 0u : kAll - static_cast<std::uint32_t>(id_),
                      poison_ == 0.0f ? kAll - OrderedKey(least_) : kAll});
    best_ = LogitOf(all.first);
    id_ = static_cast<int>(kAll - all.second);
    least_ = LogitOf(kAll - all.other);
    poison_ = all.other == kAll ? 1.0f : 0.0f;
  }

  __device__ float max() const { return best_; }
  __device__ int argmax() const { return id_; }
  __device__ float min() const { return least_; }  // NaN unless finite()
  __device__ bool finite() const { return poison_ == 0.0f; }

  // Inverse of OrderedKey.
  static __device__ float LogitOf(std::uint32_t key) {
    return __uint_as_float((key & 0x80000000u) != 0 ? key & 0x7fffffffu : ~key);
  }

 private:
  float best_ = -INFINITY;
  float least_ = INFINITY;
  float poison_ = 0.0f;
  int id_ = -1;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_ROW_SLICE_CUDA_CUH_
