#include <cuda_runtime.h>

#include "kernels/device/hopper.cuh"
#include "kernels/device/launch.cuh"
#include "kernels/math/exp_approx.cuh"
#include "kernels/math/philox.h"
#include "kernels/sampling/logit_adjust.h"
#include "kernels/sampling/prefix_select_cuda.cuh"
#include "kernels/sampling/sampling_cuda.h"

namespace mambad::kernels {
namespace {

// log-softmax of one row.
struct LogSoftmax {
  double max;
  double log_sum;

  __device__ float Of(float logit) const {
    return static_cast<float>((static_cast<double>(logit) - max) - log_sum);
  }
};

struct RowShared {
  SamplingRow row;
  std::uint64_t uniform;  // the draw from [0, 1), in 2^-53
  LogSoftmax softmax;     // of the raw row
  PrefixSelect::Shared select;
  RowGroup::Shared group;
  int top_count;
  int top_token[kMaxTableTop];
  float top_logit[kMaxTableTop];
};
constexpr std::size_t kRowSharedBytes = (sizeof(RowShared) + 15) / 16 * 16;

// The row's part of a CTA lies behind this in shared memory when the plan is on chip.
extern __shared__ uint4 dynamic_shared[];
__device__ RowShared& Shared() { return *reinterpret_cast<RowShared*>(dynamic_shared); }
__device__ float* OnChipRow() { return reinterpret_cast<float*>(dynamic_shared + kRowSharedBytes / 16); }

__device__ Penalties PenaltiesOf(const SamplingRow& row) {
  return {row.repetition_penalty, row.presence_penalty, row.frequency_penalty};
}

// The fixed-point weights exp((l - max) / temperature) of the tokens that a cut keeps.
struct Weights {
  Cut cut;
  float max;
  float rate;  // log2(e) / temperature
  float unit;  // FixedUnit(V)

  __device__ bool Takes(float logit, int id) const { return cut.Keeps(logit, id); }
  __device__ std::uint64_t Of(float logit) const {
    return __float2ull_rz(Exp2Approx(__fmul_rn(__fsub_rn(logit, max), rate)) * unit);
  }
};

// Finite for every temperature, so that the largest logit always weighs 1.
__device__ float RateOf(float temperature) { return fminf(1.44269504f / temperature, 0x1p127f); }

// The number that stands for a weight of 1: the weights of V tokens add up to less than 2^62.
__device__ float FixedUnit(std::int64_t vocab) {
  return __uint_as_float((127u + 62u - (64u - __clzll(vocab))) << 23);
}

// Loads the row's slice and finds its extremes; keeps a copy in slice.logits if asked to.
__device__ void Load(const float* logits, bool keep, const RowSlice& slice, RowGroup& group,
                     Extremes& extremes) {
  constexpr int kBatch = 4;  // loads in flight per thread
  const int region = RegionTokens(slice.size);
  const int end = min((group.warp + 1) * region, slice.size);
  for (int base = group.warp * region + 4 * group.lane; base < end; base += kBatch * kStepTokens) {
    FourLogits four[kBatch];
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kStepTokens;
      four[b] = LoadFour(logits, i, i < end ? slice.size : i);
    }
#pragma unroll
    for (int b = 0; b < kBatch; ++b) {
      const int i = base + b * kStepTokens;
#pragma unroll
      for (int j = 0; j < 4; ++j) {
        if (j < four[b].count) extremes.Add(four[b][j], slice.begin + i + j);
      }
      if (!keep) continue;
      if (four[b].count == 4) {
        *reinterpret_cast<float4*>(slice.logits + i) = four[b].v;
      } else {
        for (int j = 0; j < four[b].count; ++j) slice.logits[i + j] = four[b][j];
      }
    }
  }
  extremes.Reduce(group);
}

// One row of either launch while a group works on it.
class RowWork {
 public:
  __device__ RowWork(std::int64_t vocab, float* row_copy)
      : shared(Shared()), group(shared.group), vocab_(static_cast<int>(vocab)), unit_(FixedUnit(vocab)) {
    const int tokens = static_cast<int>(SliceTokens(vocab, group.size));
    slice.begin = group.rank * tokens;
    slice.size = max(0, min(tokens, vocab_ - slice.begin));
    slice.logits = row_copy == nullptr ? OnChipRow() : row_copy + slice.begin;
    if (threadIdx.x == 0) shared.top_count = 0;
  }

  __device__ void Load(const float* logits, bool keep) {
    kernels::Load(logits + slice.begin, keep, slice, group, extremes);
  }

  // Steps 1 to 3 of sampling.h. `previous`: one more token of the output, or -1.
  __device__ void Adjust(const SamplingRow& row, const SamplingListEntry* entries, int previous) {
    const int thread = threadIdx.x;
    for (int i = row.bias_begin + thread; i < row.counts_begin; i += kRowThreads) {
      const SamplingListEntry entry = entries[i];
      if (slice.Has(entry.token)) {
        slice.At(entry.token) = Biased(slice.At(entry.token), __int_as_float(entry.value));
      }
    }
    __syncthreads();
    const Penalties penalties = PenaltiesOf(row);
    if (penalties.Any()) {
      bool listed = false;
      for (int i = row.counts_begin + thread; i < row.suppressed_begin; i += kRowThreads) {
        const SamplingListEntry entry = entries[i];
        const bool again = entry.token == previous;
        listed |= again;
        if (slice.Has(entry.token)) {
          slice.At(entry.token) = penalties.Apply(slice.At(entry.token), entry.value + (again ? 1 : 0));
        }
      }
      const bool penalized = __syncthreads_or(listed) != 0;
      if (thread == 0 && !penalized && slice.Has(previous)) {
        slice.At(previous) = penalties.Apply(slice.At(previous), 1);
      }
      __syncthreads();
    }
    for (int i = row.suppressed_begin + thread; i < row.list_end; i += kRowThreads) {
      if (slice.Has(entries[i].token)) slice.At(entries[i].token) = -INFINITY;
    }
    __syncthreads();
    extremes = Extremes();
    ForEachLogit(slice, group, [&](float logit, int token) {
      if (logit > -INFINITY) extremes.Add(logit, token);  // not suppressed
    });
    extremes.Reduce(group);
  }

  // Steps 5 to 8; one thread of the group calls found(token).
  template <class Found>
  __device__ void Draw(const SamplingRow& row, Found found) {
    PrefixSelect select(group, slice, shared.select);
    const float max = extremes.max();
    Weights weights{Cut(), max, RateOf(row.temperature), unit_};
    if (row.top_k > 0 && row.top_k < vocab_) weights.cut = First(select, row.top_k);
    if (row.top_p < 1.0f) {
      // Tokens that far below the largest weigh next to nothing.
      const float least = fmaxf(extremes.min(), max - 40.0f * row.temperature);
      const double share = row.top_p;
      weights.cut.Tighten(select.Select(least, max, weights, [=](std::uint64_t total) {
        const double mass = ceil(share * static_cast<double>(total));
        return ::max(std::uint64_t{1}, ::min(total, static_cast<std::uint64_t>(mass)));
      }));
    }
    if (row.min_p > 0.0f) {
      // w >= min_p, told by the logit.
      const double bound = max + static_cast<double>(row.temperature) * log(static_cast<double>(row.min_p));
      weights.cut.Tighten({static_cast<float>(bound), kAllIds});
    }
    const std::uint64_t uniform = shared.uniform;
    select.FindByRunningSum(
        weights,
        [=](std::uint64_t total) {  // floor(uniform * total), exactly
          return (__umul64hi(uniform, total) << 11) | (uniform * total >> 53);
        },
        found);
  }

  __device__ LogSoftmax RawSoftmax() {
    const Weights weights{Cut(), extremes.max(), RateOf(1.0f), unit_};
    std::uint64_t sum = 0;
    ForEachLogit(slice, group, [&](float logit, int) { sum += weights.Of(logit); });
    sum = group.SumAll(sum);
    return {extremes.max(), log(static_cast<double>(sum) / static_cast<double>(unit_))};
  }

  // The likeliest min(n, V) tokens, sorted, by the group's first CTA. REQUIRES: once, and n > 0.
  __device__ int WriteTop(int n, const LogSoftmax& softmax, std::int32_t* tokens, float* logprobs) {
    n = min(n, vocab_);
    PrefixSelect select(group, slice, shared.select);
    Cut cut;
    if (n < vocab_) cut = First(select, n);
    ForEachLogit(slice, group, [&](float logit, int id) {
      if (!cut.Keeps(logit, id)) return;
      const int at = atomicAdd(group.At(0, &shared.top_count), 1);
      group.At(0, shared.top_token)[at] = id;
      group.At(0, shared.top_logit)[at] = logit;
    });
    group.Sync();
    const int i = threadIdx.x;
    if (group.rank == 0 && i < n) {
      const float logit = shared.top_logit[i];
      const int token = shared.top_token[i];
      int place = 0;
      for (int j = 0; j < n; ++j) {
        const float other = shared.top_logit[j];
        place += other > logit || (other == logit && shared.top_token[j] < token);
      }
      tokens[place] = token;
      logprobs[place] = softmax.Of(logit);
    }
    return n;
  }

  // 1 + the number of tokens before `target`.
  __device__ int Rank(float logit, int target) {
    std::uint64_t before = 0;
    ForEachLogit(slice, group,
                 [&](float other, int id) { before += other > logit || (other == logit && id < target); });
    return static_cast<int>(group.SumAll(before)) + 1;
  }

  __device__ bool Writes() const { return group.rank == 0 && threadIdx.x == 0; }

  RowShared& shared;
  RowGroup group;
  RowSlice slice;
  Extremes extremes;

 private:
  // The cut after the first n tokens; n < V.
  __device__ Cut First(PrefixSelect& select, int n) {
    return select.Select(extremes.min(), extremes.max(), TokenCounts{},
                         [=](std::uint64_t) { return static_cast<std::uint64_t>(n); });
  }

  int vocab_;
  float unit_;
};

__device__ void SampleRow(const SampleLaunch& launch, int r, RowWork& work) {
  const SamplingRow& row = work.shared.row;
  const auto logits = [&] { return launch.logits + r * launch.logits_stride; };
  const bool report = row.logprob != 0 || row.top_logprobs > 0;
  // Nothing counts without a penalty: then the row need not be copied and read again.
  const bool count_previous = row.count_previous != 0 && row.token_slot >= 0 && PenaltiesOf(row).Any();
  const bool adjust = row.list_end > row.bias_begin || count_previous;
  work.Load(logits(), report || adjust || row.temperature != 0.0f);
  const bool finite = work.extremes.finite();
  int top_count = 0;
  if (finite && report) {
    const LogSoftmax softmax = work.RawSoftmax();
    if (threadIdx.x == 0) work.shared.softmax = softmax;
    if (row.top_logprobs > 0) {
      top_count = work.WriteTop(row.top_logprobs, softmax, launch.results[r].top_token,
                                launch.results[r].top_logprob);
    }
  }
  if (work.Writes()) {
    launch.results[r].finite = finite ? 1 : 0;
    launch.results[r].top_count = top_count;
  }
  const auto choose = [&](int token) {
    launch.results[r].token = token;
    launch.results[r].logprob = finite && report ? work.shared.softmax.Of(logits()[token]) : 0.0f;
    if (launch.tokens != nullptr && row.token_slot >= 0) launch.tokens[row.token_slot] = token;
  };
  if (finite && adjust) {
    work.Adjust(row, launch.entries, count_previous ? launch.tokens[row.token_slot] : kNoTokenSlot);
  }
  if (finite && row.temperature != 0.0f) {
    work.Draw(row, choose);
  } else if (work.Writes()) {
    choose(finite ? work.extremes.argmax() : 0);
  }
}

__global__ void __launch_bounds__(kRowThreads, 1) SampleKernel(SampleLaunch launch, int ctas_per_row) {
  const int r = blockIdx.x / ctas_per_row;
  RowWork work(launch.vocab,
               launch.row_copies == nullptr ? nullptr : launch.row_copies + r * launch.logits_stride);
  SamplingRow& row = work.shared.row;
  constexpr int kWords = sizeof(SamplingRow) / sizeof(std::uint32_t);
  if (threadIdx.x < kWords) {
    reinterpret_cast<std::uint32_t*>(&row)[threadIdx.x] =
        reinterpret_cast<const std::uint32_t*>(launch.table + r)[threadIdx.x];
  }
  work.group.Sync();  // also: the other CTAs run, their shared memory may be written
  if (threadIdx.x == 0) {
    const double uniform = UniformDraw(row.seed, row.token_index, row.candidate);
    work.shared.uniform = static_cast<std::uint64_t>(uniform * 0x1p53);
  }
  AllowNextKernel();
  WaitForPreviousKernel();
  SampleRow(launch, r, work);
}

__global__ void __launch_bounds__(kRowThreads, 1) ScoreKernel(ScoreLaunch launch, int ctas_per_row) {
  const std::int64_t r = blockIdx.x / ctas_per_row;
  const float* logits = launch.logits + r * launch.logits_stride;
  RowWork work(launch.vocab,
               launch.row_copies == nullptr ? nullptr : launch.row_copies + r * launch.logits_stride);
  work.group.Sync();  // the other CTAs run, their shared memory may be written
  AllowNextKernel();
  WaitForPreviousKernel();
  const int target = launch.targets[r];
  if (target < 0) return;
  ScoredRow& result = launch.results[r];
  work.Load(logits, true);
  ScoredRow head{0.0f, 1, 0, 0};
  if (work.extremes.finite()) {
    const float logit = logits[target];
    const LogSoftmax softmax = work.RawSoftmax();
    head.finite = 1;
    head.logprob = softmax.Of(logit);
    head.rank = work.Rank(logit, target);
    if (launch.top_logprobs > 0) {
      head.top_count = work.WriteTop(launch.top_logprobs, softmax, result.top_token, result.top_logprob);
    }
  }
  if (work.Writes()) {
    result.logprob = head.logprob;
    result.rank = head.rank;
    result.finite = head.finite;
    result.top_count = head.top_count;
  }
}

template <class Launch>
cudaError_t LaunchRows(void (*kernel)(Launch, int), void* stream, const SamplingPlan& plan,
                       const Launch& launch) {
  static_assert(1 << (SamplingDevice::kClusterSizes - 1) == RowGroup::kMaxCtas);
  if (launch.rows == 0) return cudaSuccess;
  if (plan.on_chip != (launch.row_copies == nullptr)) return cudaErrorInvalidValue;
  return LaunchKernel(static_cast<cudaStream_t>(stream), kernel,
                      {.grid = dim3(static_cast<unsigned>(launch.rows * plan.ctas_per_row)),
                       .threads = kRowThreads,
                       .shared_bytes = static_cast<int>(plan.shared_bytes),
                       .cluster = plan.ctas_per_row,
                       .overlaps = false},
                      launch, plan.ctas_per_row);
}

}  // namespace

SamplingPlan PlanSampling(const SamplingDevice& device, std::int64_t vocab, std::int64_t rows) {
  const std::size_t room = device.shared_bytes_per_cta - kRowSharedBytes;
  const auto slice_bytes = [&](int ctas) { return SliceTokens(vocab, ctas) * sizeof(float); };
  SamplingPlan plan;
  for (int step = 1; step < SamplingDevice::kClusterSizes; ++step) {
    if (device.clusters_at_once[step] == 0) break;
    const bool fits = slice_bytes(plan.ctas_per_row) <= room;
    if (fits && rows > device.clusters_at_once[step]) break;
    plan.ctas_per_row = 1 << step;
  }
  plan.on_chip = slice_bytes(plan.ctas_per_row) <= room;
  plan.shared_bytes = kRowSharedBytes + (plan.on_chip ? slice_bytes(plan.ctas_per_row) : 0);
  return plan;
}

std::size_t SamplingScratchBytes(const SamplingPlan& plan, std::int64_t logits_stride, std::int64_t rows) {
  return plan.on_chip ? 0 : rows * logits_stride * sizeof(float);
}

int DescribeSamplingDevice(int device, SamplingDevice* description) {
  *description = {};
  int shared = 0, major = 0;
  cudaError_t status = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  if (status != cudaSuccess) return status;
  description->shared_bytes_per_cta = static_cast<std::size_t>(shared);
  status = cudaDeviceGetAttribute(&description->clusters_at_once[0], cudaDevAttrMultiProcessorCount, device);
  if (status != cudaSuccess) return status;
  status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  for (int step = 1; status == cudaSuccess && major >= 9 && step < SamplingDevice::kClusterSizes; ++step) {
    cudaLaunchAttribute cluster = {};
    cluster.id = cudaLaunchAttributeClusterDimension;
    cluster.val.clusterDim = {1u << step, 1, 1};
    cudaLaunchConfig_t config = {};
    config.gridDim = dim3(1u << step);
    config.blockDim = dim3(kRowThreads);
    config.dynamicSmemBytes = kRowSharedBytes;
    config.attrs = &cluster;
    config.numAttrs = 1;
    status = cudaOccupancyMaxActiveClusters(&description->clusters_at_once[step], &SampleKernel, &config);
  }
  return status;
}

int LaunchSample(void* stream, const SamplingPlan& plan, const SampleLaunch& launch) {
  return LaunchRows(&SampleKernel, stream, plan, launch);
}

int LaunchScoreRows(void* stream, const SamplingPlan& plan, const ScoreLaunch& launch) {
  return LaunchRows(&ScoreKernel, stream, plan, launch);
}

}  // namespace mambad::kernels
