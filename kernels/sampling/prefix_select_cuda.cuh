// Cutting a row to its first tokens in the order "largest logit first, ties to the lowest id", and finding a
// token by a running sum over ids: the GPU's side of prefix_select.h. Amounts are integers.
//
// The cut is found by histograms, not by a sort. The first one has bins of equal width over the logits, which
// spreads them as evenly as they lie (their bits would not: a row's logits share a few exponents); its bin
// with the cut holds some dozens of tokens, which are then compared with each other. Should there be more than
// a list holds, that bin is divided by the bits of the logits, until it fits or all of it is one value.
#ifndef MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_
#define MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_

#include <cstdint>

#include "kernels/sampling/row_slice_cuda.cuh"

namespace mambad::kernels {

inline constexpr int kAllIds = 0x7fffffff;

// What a cut keeps; the default keeps everything.
struct Cut {
  float logit = -INFINITY;
  int last_id = kAllIds;  // of the tokens whose logit is equal

  __device__ bool Keeps(float other, int id) const {
    return other > logit || (other == logit && id <= last_id);
  }
};

class PrefixSelect {
 public:
  static constexpr int kBins = 2 * kRowThreads;
  static constexpr int kListSize = 256;

  struct List {
    float logit[kListSize];
    std::uint64_t amount[kListSize];
  };
  struct Choice {
    int bin;
    std::uint64_t rest;  // of the target, to be reached within the bin
  };
  struct Shared {
    std::uint32_t low[kBins];  // 64-bit sums in halves: shared memory adds 32 bits at a time
    std::uint32_t high[kBins];
    List own;     // this CTA's tokens of the chosen bin, the first kListSize of them
    List merged;  // the cluster's
    int own_count;
    Choice choice;
    float cut_logit;
    std::uint64_t ties, equal;
    int found_id;
  };

  __device__ PrefixSelect(RowGroup& group, const RowSlice& slice, Shared& shared)
      : group_(group), slice_(slice), shared_(shared) {}

  // The fewest first tokens whose amounts reach target(sum of all amounts), which is in [1, that sum].
  // amount(logit, id) is a function of the logit alone, or 0 for a token that does not take part; [min, max]
  // should hold the logits that matter, for speed alone.
  template <class Amount, class Target>
  __device__ Cut Select(float min, float max, Amount amount, Target target) {
    const float scale = kBins / (max - min);
    const auto linear_bin = [=](float logit) {
      return ::min(kBins - 1, ::max(0, __float2int_rz((logit - min) * scale)));
    };
    Fill(amount, linear_bin);
    Choice choice = ChooseBin(target);
    Members members = Collect(amount, [=](float logit) { return linear_bin(logit) == choice.bin; });
    while (members.count > kListSize && members.min_key != members.max_key) {
      const std::uint32_t from = members.min_key, to = members.max_key;
      const int shift = ::max(0, 21 - __clz(to - from));  // leaves 11 bits
      const auto key_bin = [=](float logit) {
        const std::uint32_t key = OrderedKey(logit);
        return key < from || key > to ? -1 : static_cast<int>((key - from) >> shift);
      };
      Fill(amount, key_bin);
      choice = ChooseBin([&](std::uint64_t) { return choice.rest; });
      members = Collect(amount, [=](float logit) { return key_bin(logit) == choice.bin; });
    }
    return CutAmong(members, choice.rest);
  }

  // The first id at which the running sum of amount(logit, id) over ascending ids passes target(sum of all),
  // which is below that sum.
  template <class Amount, class Target>
  __device__ int FindByRunningSum(Amount amount, Target target) {
    std::uint64_t sum = 0;
    ForEachLogit(slice_, group_, [&](float logit, int id) { sum += amount(logit, id); });
    const RowGroup::Scanned threads = group_.ScanCta(sum);
    const RowGroup::Scanned ctas = group_.ScanGroup(threads.total);
    // This warp's part of the running sum.
    const std::uint64_t begin = ctas.before + __shfl_sync(kAllLanes, threads.before, 0);
    const std::uint64_t end = ctas.before + __shfl_sync(kAllLanes, threads.before + sum, 31);
    const std::uint64_t wanted = target(ctas.total);
    if (begin <= wanted && wanted < end) WalkRegion(amount, wanted - begin);
    group_.Sync();
    return shared_.found_id;
  }

 private:
  struct Members {  // of the chosen bin
    int count;
    std::uint32_t min_key, max_key;
  };

  __device__ void AddToBin(int bin, std::uint64_t amount) {
    const std::uint32_t low = static_cast<std::uint32_t>(amount);
    const std::uint32_t before = atomicAdd(&shared_.low[bin], low);
    const std::uint32_t high = static_cast<std::uint32_t>(amount >> 32) + (before + low < low ? 1 : 0);
    if (high != 0) atomicAdd(&shared_.high[bin], high);
  }

  // Sums the amounts by bin_of(logit), which ascends with the logit; negative: not counted.
  template <class Amount, class BinOf>
  __device__ void Fill(Amount amount, BinOf bin_of) {
    for (int i = threadIdx.x; i < kBins; i += kRowThreads) shared_.low[i] = shared_.high[i] = 0;
    __syncthreads();
    ForEachLogit(slice_, group_, [&](float logit, int id) {
      const int bin = bin_of(logit);
      if (bin < 0) return;
      const std::uint64_t a = amount(logit, id);
      if (a != 0) AddToBin(bin, a);
    });
    group_.Sync();
  }

  __device__ std::uint64_t BinSum(int bin) const {
    std::uint64_t sum = 0;
    for (int peer = 0; peer < group_.size; ++peer) {
      sum += (std::uint64_t{*group_.At(peer, &shared_.high[bin])} << 32) + *group_.At(peer, &shared_.low[bin]);
    }
    return sum;
  }

  // The bin in which the sum from the highest bin down reaches target(sum of all bins).
  template <class Target>
  __device__ Choice ChooseBin(Target target) {
    const int bin = kBins - 1 - 2 * static_cast<int>(threadIdx.x);
    const std::uint64_t first = BinSum(bin), second = BinSum(bin - 1);
    const RowGroup::Scanned sums = group_.ScanCta(first + second);
    const std::uint64_t wanted = target(sums.total);
    if (sums.before < wanted && wanted <= sums.before + first + second) {
      const bool in_first = wanted <= sums.before + first;
      shared_.choice.bin = in_first ? bin : bin - 1;
      shared_.choice.rest = wanted - sums.before - (in_first ? 0 : first);
    }
    if (threadIdx.x == 0) shared_.own_count = 0;
    __syncthreads();
    return shared_.choice;
  }

  // The tokens with an amount for which in_bin(logit); as many as fit go to the list.
  template <class Amount, class InBin>
  __device__ Members Collect(Amount amount, InBin in_bin) {
    std::uint32_t max_key = 0, min_key = 0xffffffffu;
    ForEachFour(slice_, group_, [&](const FourLogits& four, int token) {
      bool any = false;
#pragma unroll
      for (int j = 0; j < 4; ++j) any |= j < four.count && in_bin(four[j]);
      if (!any) return;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j >= four.count || !in_bin(four[j])) continue;
        const std::uint64_t a = amount(four[j], token + j);
        if (a == 0) continue;
        const std::uint32_t key = OrderedKey(four[j]);
        max_key = ::max(max_key, key);
        min_key = ::min(min_key, key);
        const int at = atomicAdd(&shared_.own_count, 1);
        if (at < kListSize) {
          shared_.own.logit[at] = four[j];
          shared_.own.amount[at] = a;
        }
      }
    });
    const RowGroup::Pair keys = group_.MaxAll({max_key, 0xffffffffu - min_key});
    Members members{0, 0xffffffffu - static_cast<std::uint32_t>(keys.b), static_cast<std::uint32_t>(keys.a)};
    for (int peer = 0; peer < group_.size; ++peer) members.count += *group_.At(peer, &shared_.own_count);
    return members;
  }

  // All members of the chosen bin side by side; of each CTA as many as there is room for.
  __device__ const List& Merge() {
    if (group_.size == 1) return shared_.own;
    int before = 0;
    for (int peer = 0; peer < group_.size; ++peer) {
      const List* list = group_.At(peer, &shared_.own);
      const int count = ::min(*group_.At(peer, &shared_.own_count), kListSize - before);
      for (int i = threadIdx.x; i < count; i += kRowThreads) {
        shared_.merged.logit[before + i] = list->logit[i];
        shared_.merged.amount[before + i] = list->amount[i];
      }
      before += count;
    }
    __syncthreads();
    return shared_.merged;
  }

  // The cut where the amounts of the chosen bin's first tokens reach `wanted`.
  __device__ Cut CutAmong(const Members& members, std::uint64_t wanted) {
    const List& list = Merge();
    if (members.count > kListSize) {  // one value many times
      if (threadIdx.x == 0) SetCut(list.logit[0], wanted, list.amount[0], members.count);
    } else {
      for (int c = group_.warp; c < members.count; c += kRowWarps) {
        const float logit = list.logit[c];
        std::uint64_t larger = 0;
        unsigned equal = 0;
        for (int i = group_.lane; i < members.count; i += 32) {
          if (list.logit[i] > logit) larger += list.amount[i];
          if (list.logit[i] == logit) ++equal;
        }
        larger = WarpSum(larger);
        equal = __reduce_add_sync(kAllLanes, equal);
        if (group_.lane == 0 && larger < wanted && wanted <= larger + equal * list.amount[c]) {
          SetCut(logit, wanted - larger, list.amount[c], equal);  // its equals write the same
        }
      }
    }
    __syncthreads();
    const float logit = shared_.cut_logit;
    const std::uint64_t ties = shared_.ties;
    if (ties == shared_.equal) return {logit, kAllIds};
    return {logit, FindByRunningSum([=](float other, int) { return std::uint64_t{other == logit}; },
                                    [=](std::uint64_t) { return ties - 1; })};
  }

  __device__ void SetCut(float logit, std::uint64_t rest, std::uint64_t amount, std::uint64_t equal) {
    shared_.cut_logit = logit;
    shared_.ties = (rest + amount - 1) / amount;
    shared_.equal = equal;
  }

  // By the one warp in whose region the running sum passes `wanted`, counted from the region's start.
  template <class Amount>
  __device__ void WalkRegion(Amount amount, std::uint64_t wanted) {
    std::uint64_t sum = 0;
    bool found = false;
    ForEachFour(slice_, group_, [&](const FourLogits& four, int token) {
      if (found) return;
      std::uint64_t a[4], mine = 0;
#pragma unroll
      for (int j = 0; j < 4; ++j) mine += a[j] = j < four.count ? amount(four[j], token + j) : 0;
      const std::uint64_t through = sum + WarpInclusiveScan(mine, group_.lane);
      sum = __shfl_sync(kAllLanes, through, 31);
      found = sum > wanted;
      if (through <= wanted || through - mine > wanted) return;
      std::uint64_t running = through - mine;
      int id = token;
#pragma unroll
      for (int j = 0; j < 3; ++j) {
        running += a[j];
        if (running <= wanted) id = token + j + 1;
      }
      for (int peer = 0; peer < group_.size; ++peer) *group_.At(peer, &shared_.found_id) = id;
    });
  }

  RowGroup& group_;
  const RowSlice& slice_;
  Shared& shared_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_
