// Cutting a row to its first tokens in the order "largest logit first, ties to the lowest id", and finding a
// token by a running sum over ids: the GPU's side of prefix_select.h. What is summed are integers.
//
// The cut is found by histograms, not by a sort. The first one has bins of equal width over the logits, which
// spreads them as evenly as they lie (their bits would not: a row's logits share a few exponents); its bin
// with the cut holds some dozens of tokens, which are then compared with each other. Should there be more
// than a list holds, that bin is divided by the bits of the logits, until it fits or all of it is one value.
#ifndef MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_
#define MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_

#include <cstdint>
#include <utility>

#include "kernels/sampling/row_slice_cuda.cuh"

namespace mambad::kernels {

inline constexpr int kAllIds = 0x7fffffff;

// What a cut keeps; the default keeps everything.
struct Cut {
  float logit = -INFINITY;
  int last_id = kAllIds;  // of the tokens whose logit is equal

  __device__ bool Keeps(float other, int id) const {
    return (other > logit) | ((other == logit) & (id <= last_id));
  }
  // Keeps what both keep.
  __device__ void Tighten(const Cut& other) {
    if (other.logit > logit) {
      *this = other;
    } else if (other.logit == logit) {
      last_id = ::min(last_id, other.last_id);
    }
  }
};

// What is summed over tokens: Of(logit) for those that it takes.
struct TokenCounts {
  Cut cut;

  __device__ bool Takes(float logit, int id) const { return cut.Keeps(logit, id); }
  __device__ std::uint32_t Of(float) const { return 1; }
};
struct TiesOf {
  float tie;

  __device__ bool Takes(float logit, int) const { return logit == tie; }
  __device__ std::uint32_t Of(float) const { return 1; }
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
    struct {
      int warp;
      std::uint64_t wanted;
    } walk;
    float cut_logit;
    std::uint64_t ties, equal;
    int last_tie;
  };

  __device__ PrefixSelect(RowGroup& group, const RowSlice& slice, Shared& shared)
      : group_(group), slice_(slice), shared_(shared) {}

  // The fewest first tokens whose amounts reach target(sum of all amounts), which is in [1, that sum].
  // [min, max] should hold the logits that matter, for speed alone.
  template <class Amount, class Target>
  __device__ Cut Select(float min, float max, const Amount& amount, Target target) {
    const float scale = kBins / (max - min);
    const auto linear_bin = [=](float logit) {
      // A NaN (0 * infinity) counts as 0. Adding kRoundMagic leaves the nearest integer in the low bits.
      const float place = fminf(fmaxf(__fmul_rn(__fsub_rn(logit, min), scale), 0.0f), kBins - 1.0f);
      return __float_as_int(__fadd_rn(place, kRoundMagic)) & (kBins - 1);
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

  // Calls found(id), by one thread of the group, with the first id at which the running sum of amounts over
  // ascending ids passes target(sum of all); that is below the sum.
  template <class Amount, class Target, class Found>
  __device__ void FindByRunningSum(const Amount& amount, Target target, Found found) {
    std::uint64_t sum = 0;
    ForEachFour(slice_, group_,
                [&](const FourLogits& four, int token) { sum += Amounts(four, token, amount).Sum(); });
    const RowGroup::Scanned threads = group_.ScanCta(sum);
    const RowGroup::Scanned ctas = group_.ScanGroup(threads.total);
    const std::uint64_t wanted = target(ctas.total);
    if (ctas.before <= wanted && wanted < ctas.before + threads.total) {
      // The region of the warp that the sum passes `wanted` in.
      const std::uint64_t begin = ctas.before + __shfl_sync(kAllLanes, threads.before, 0);
      const std::uint64_t end = ctas.before + __shfl_sync(kAllLanes, threads.before + sum, 31);
      if (group_.lane == 0 && begin <= wanted && wanted < end) shared_.walk = {group_.warp, wanted - begin};
      __syncthreads();
      WalkRegion(amount, shared_.walk.warp, shared_.walk.wanted, found);
    }
  }

 private:
  struct Members {  // of the chosen bin
    int count;
    int peer_count, peer_before;  // of the CTA whose list this warp merges, and of those before it
    std::uint32_t min_key, max_key;
  };

  // The amounts of four tokens.
  template <class Amount>
  struct Amounts {
    bool any = false;
    decltype(std::declval<Amount>().Of(0.0f)) of[4] = {};

    __device__ Amounts(const FourLogits& four, int token, const Amount& amount) {
      bool takes[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        takes[j] = (j < four.count) & amount.Takes(four[j], token + j);
        any |= takes[j];
      }
      if (!any) return;
#pragma unroll
      for (int j = 0; j < 4; ++j) of[j] = takes[j] ? amount.Of(four[j]) : 0;
    }
    __device__ std::uint64_t Sum() const { return std::uint64_t{of[0]} + of[1] + of[2] + of[3]; }
  };

  __device__ void AddToBin(int bin, std::uint32_t count) { atomicAdd(&shared_.low[bin], count); }
  __device__ void AddToBin(int bin, std::uint64_t amount) {
    const std::uint32_t low = static_cast<std::uint32_t>(amount);
    const std::uint32_t before = atomicAdd(&shared_.low[bin], low);
    const std::uint32_t high = static_cast<std::uint32_t>(amount >> 32) + (before + low < low ? 1 : 0);
    if (high != 0) atomicAdd(&shared_.high[bin], high);
  }

  // Sums the amounts by bin_of(logit), which ascends with the logit; negative: not counted.
  template <class Amount, class BinOf>
  __device__ void Fill(const Amount& amount, BinOf bin_of) {
    for (int i = threadIdx.x; i < kBins; i += kRowThreads) shared_.low[i] = shared_.high[i] = 0;
    __syncthreads();
    ForEachFour(slice_, group_, [&](const FourLogits& four, int token) {
      const Amounts amounts(four, token, amount);
      if (!amounts.any) return;
      int bin[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) bin[j] = bin_of(four[j]);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (amounts.of[j] != 0 && bin[j] >= 0) AddToBin(bin[j], amounts.of[j]);
      }
    });
    group_.Sync();
  }

  __device__ std::uint64_t BinSum(int peer, int bin) const {
    return (std::uint64_t{*group_.At(peer, &shared_.high[bin])} << 32) + *group_.At(peer, &shared_.low[bin]);
  }

  // The bin in which the sum from the highest bin down reaches target(sum of all bins).
  template <class Target>
  __device__ Choice ChooseBin(Target target) {
    // Each CTA sums a share of the bins over the group, each thread two numbers: two bins of the only CTA, or
    // one bin of two CTAs with `per_bin` neighbouring threads for all of them.
    const int thread = threadIdx.x;
    const bool alone = group_.size == 1;
    const int per_bin = alone ? 1 : group_.size / 2;
    const int bin = kBins - 1 - (alone ? 2 * thread : group_.rank * (kBins / group_.size) + thread / per_bin);
    const int peer = alone ? 0 : 2 * (thread % per_bin);
    const std::uint64_t first = BinSum(peer, bin);
    const std::uint64_t second = alone ? BinSum(0, bin - 1) : BinSum(peer + 1, bin);
    const RowGroup::Scanned threads = group_.ScanCta(first + second);
    const RowGroup::Scanned ctas = group_.ScanGroup(threads.total);
    const std::uint64_t wanted = target(ctas.total);
    const std::uint64_t before = ctas.before + threads.before;
    const std::uint64_t before_bin = __shfl_sync(kAllLanes, before, group_.lane / per_bin * per_bin);
    if (before < wanted && wanted <= before + first + second) {
      Choice choice{bin, wanted - before_bin};
      if (alone && choice.rest > first) choice = {bin - 1, choice.rest - first};
      for (int p = 0; p < group_.size; ++p) *group_.At(p, &shared_.choice) = choice;
    }
    if (thread == 0) shared_.own_count = 0;
    group_.Sync();
    return shared_.choice;
  }

  // The tokens with an amount for which in_bin(logit); as many as fit go to the list.
  template <class Amount, class InBin>
  __device__ Members Collect(const Amount& amount, InBin in_bin) {
    std::uint32_t max_key = 0, min_key = 0xffffffffu;
    ForEachFour(slice_, group_, [&](const FourLogits& four, int token) {
      bool in[4];
#pragma unroll
      for (int j = 0; j < 4; ++j) in[j] = (j < four.count) & in_bin(four[j]);
      if (!(in[0] | in[1] | in[2] | in[3])) return;
      const Amounts amounts(four, token, amount);
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (!in[j] || amounts.of[j] == 0) continue;
        const std::uint32_t key = OrderedKey(four[j]);
        max_key = ::max(max_key, key);
        min_key = ::min(min_key, key);
        const int at = atomicAdd(&shared_.own_count, 1);
        if (at < kListSize) {
          shared_.own.logit[at] = four[j];
          shared_.own.amount[at] = amounts.of[j];
        }
      }
    });
    RowGroup::Top mine = group_.MaxCta({max_key, 0u, 0xffffffffu - min_key});
    mine.second = static_cast<std::uint32_t>(shared_.own_count);
    if (group_.size == 1) return {shared_.own_count, 0, 0, 0xffffffffu - mine.other, mine.first};
    const RowGroup::Top* all = group_.Exchange(mine);
    const bool used = group_.lane < group_.size;
    const RowGroup::Top keys = RowGroup::WarpTop(used ? all[group_.lane] : mine);
    const int through = static_cast<int>(WarpInclusiveScan(used ? all[group_.lane].second : 0, group_.lane));
    const int peer = group_.warp % group_.size;
    const int peer_count = static_cast<int>(all[peer].second);
    return {__shfl_sync(kAllLanes, through, 31), peer_count,
            __shfl_sync(kAllLanes, through, peer) - peer_count, 0xffffffffu - keys.other, keys.first};
  }

  // All members of the chosen bin side by side, as many as there is room for.
  __device__ const List& Merge(const Members& members) {
    if (group_.size == 1) return shared_.own;
    const List* list = group_.At(group_.warp % group_.size, &shared_.own);
    const int count = ::min(members.peer_count, kListSize - members.peer_before);
    for (int i = group_.warp / group_.size * 32 + group_.lane; i < count; i += kRowThreads / group_.size) {
      shared_.merged.logit[members.peer_before + i] = list->logit[i];
      shared_.merged.amount[members.peer_before + i] = list->amount[i];
    }
    __syncthreads();
    return shared_.merged;
  }

  // The cut where the amounts of the chosen bin's first tokens reach `wanted`.
  __device__ Cut CutAmong(const Members& members, std::uint64_t wanted) {
    const List& list = Merge(members);
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
    FindByRunningSum(
        TiesOf{logit}, [=](std::uint64_t) { return ties - 1; },
        [&](int id) {
          for (int peer = 0; peer < group_.size; ++peer) *group_.At(peer, &shared_.last_tie) = id;
        });
    group_.Sync();
    return {logit, shared_.last_tie};
  }

  __device__ void SetCut(float logit, std::uint64_t rest, std::uint64_t amount, std::uint64_t equal) {
    shared_.cut_logit = logit;
    shared_.ties = (rest + amount - 1) / amount;
    shared_.equal = equal;
  }

  // By all threads of the CTA: the token of `warp`'s region at which the running sum passes `wanted`, counted
  // from the region's start.
  template <class Amount, class Found>
  __device__ void WalkRegion(const Amount& amount, int warp, std::uint64_t wanted, Found found) {
    const int region = RegionTokens(slice_.size);
    const int end = ::min((warp + 1) * region, slice_.size);
    for (int base = warp * region; base < end; base += 4 * kRowThreads) {
      const int i = base + 4 * static_cast<int>(threadIdx.x);
      const FourLogits four = LoadFour(slice_.logits, i, end);
      const Amounts amounts(four, slice_.begin + i, amount);
      const RowGroup::Scanned sums = group_.ScanCta(amounts.Sum());
      if (sums.before <= wanted && wanted < sums.before + amounts.Sum()) {
        std::uint64_t running = sums.before;
        int id = slice_.begin + i;
#pragma unroll
        for (int j = 0; j < 3; ++j) {
          running += amounts.of[j];
          if (running <= wanted) id = slice_.begin + i + j + 1;
        }
        found(id);
      }
      if (sums.total > wanted) return;
      wanted -= sums.total;
    }
  }

  RowGroup& group_;
  const RowSlice& slice_;
  Shared& shared_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_SAMPLING_PREFIX_SELECT_CUDA_CUH_
