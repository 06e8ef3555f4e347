#include "kernels/sampling/sampling_cuda.h"

#include <cuda_runtime.h>

#include "kernels/math/exp.h"
#include "kernels/math/philox.h"
#include "kernels/sampling/logit_adjust.h"
#include "kernels/sampling/prefix_select_cuda.cuh"

namespace mambad::kernels {
namespace {

struct RowShared {
  SamplingRow row;
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

__device__ void WaitForPrimary() {
#if defined(__CUDA_ARCH__) && __CUDA_ARCH__ >= 900
  asm volatile("griddepcontrol.launch_dependents;" ::: "memory");
  asm volatile("griddepcontrol.wait;" ::: "memory");
#endif
}

// exp((l - max) / temperature) in fp32, and as a fixed-point number of which V add up to less than 2^63.
struct Weigher {
  float max;
  float temperature;
  float unit;  // FixedUnit(V)

  __device__ float Weight(float logit) const {
    F32x1 x = F32x1{logit} - F32x1{max};
    if (temperature != 1.0f) x = x / F32x1{temperature};
    return ExpNonPositive(x).v;
  }
  __device__ std::uint64_t Fixed(float weight) const { return __float2ull_rz(weight * unit); }
  __device__ std::uint64_t operator()(float logit) const { return Fixed(Weight(logit)); }
};

__device__ float FixedUnit(std::int64_t vocab) {
  return __uint_as_float((127u + 62u - (64u - __clzll(vocab))) << 23);
}

// log-softmax of one row.
struct LogSoftmax {
  double max;
  double log_sum;

  __device__ float Of(float logit) const {
    return static_cast<float>((static_cast<double>(logit) - max) - log_sum);
  }
};

// Loads the row's slice and finds its extremes; keeps a copy in slice.logits if asked to.
__device__ void Load(const float* logits, bool keep, const RowSlice& slice, RowGroup& group, Extremes& extremes) {
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
    const Penalties penalties{row.repetition_penalty, row.presence_penalty, row.frequency_penalty};
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
    ForEachLogit(slice, group, [&](float logit, int token) { extremes.Add(logit, token); });
    extremes.Reduce(group);
  }

  // Steps 5 to 8.
  __device__ int Draw(const SamplingRow& row) {
    PrefixSelect select(group, slice, shared.select);
    const Weigher weigher{extremes.max(), row.temperature, unit_};
    Cut by_count, by_mass;
    if (row.top_k > 0 && row.top_k < vocab_) by_count = First(select, row.top_k);
    if (row.top_p < 1.0f) {
      // Tokens that far below the largest weigh next to nothing.
      const float least = fmaxf(extremes.min(), extremes.max() - 40.0f * row.temperature);
      const double share = row.top_p;
      by_mass = select.Select(
          least, extremes.max(),
          [&](float logit, int id) { return by_count.Keeps(logit, id) ? weigher(logit) : 0; },
          [=](std::uint64_t total) {
            const double mass = ceil(share * static_cast<double>(total));
            return max(std::uint64_t{1}, min(total, static_cast<std::uint64_t>(mass)));
          });
    }
    const auto kept_weight = [&](float logit, int id) {
      if (!by_count.Keeps(logit, id) || !by_mass.Keeps(logit, id)) return std::uint64_t{0};
      const float weight = weigher.Weight(logit);
      return weight >= row.min_p ? weigher.Fixed(weight) : 0;
    };
    const double uniform = UniformDraw(row.seed, row.token_index, row.candidate);
    const std::uint64_t bits = static_cast<std::uint64_t>(uniform * 0x1p53);
    return select.FindByRunningSum(kept_weight, [=](std::uint64_t total) {
      return (__umul64hi(bits, total) << 11) | (bits * total >> 53);  // floor(uniform * total), exactly
    });
  }

  __device__ LogSoftmax RawSoftmax() {
    const Weigher weigher{extremes.max(), 1.0f, unit_};
    std::uint64_t sum = 0;
    ForEachLogit(slice, group, [&](float logit, int) { sum += weigher(logit); });
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
    ForEachLogit(slice, group, [&](float other, int id) {
      before += other > logit || (other == logit && id < target);
    });
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
    return select.Select(
        extremes.min(), extremes.max(), [](float, int) { return std::uint64_t{1}; },
        [=](std::uint64_t) { return static_cast<std::uint64_t>(n); });
  }

  int vocab_;
  float unit_;
};

__device__ void SampleRow(const SampleLaunch& launch, const SamplingRow& row, std::int64_t r) {
  const float* logits = launch.logits + r * launch.logits_stride;
  RowWork work(launch.vocab, launch.row_copies == nullptr ? nullptr : launch.row_copies + r * launch.logits_stride);
  SampledRow& result = launch.results[r];
  const int previous =
      row.count_previous != 0 && row.token_slot >= 0 ? launch.tokens[row.token_slot] : kNoTokenSlot;
  const bool report = row.logprob != 0 || row.top_logprobs > 0;
  const bool adjust = row.list_end > row.bias_begin || previous >= 0;
  work.Load(logits, report || adjust || row.temperature != 0.0f);
  const bool finite = work.extremes.finite();
  int token = 0, top_count = 0;
  float logprob = 0.0f;
  if (finite) {
    LogSoftmax softmax{};
    if (report) softmax = work.RawSoftmax();
    if (row.top_logprobs > 0) {
      top_count = work.WriteTop(row.top_logprobs, softmax, result.top_token, result.top_logprob);
    }
    if (adjust) work.Adjust(row, launch.entries, previous);
    token = row.temperature == 0.0f ? work.extremes.argmax() : work.Draw(row);
    if (report && work.Writes()) logprob = softmax.Of(logits[token]);
  }
  if (work.Writes()) {
    result.token = token;
    result.logprob = logprob;
    result.finite = finite ? 1 : 0;
    result.top_count = top_count;
    if (launch.tokens != nullptr && row.token_slot >= 0) launch.tokens[row.token_slot] = token;
  }
  work.group.Sync();  // no CTA leaves while another one reads its shared memory
}

__global__ void __launch_bounds__(kRowThreads, 1) SampleKernel(SampleLaunch launch, int ctas_per_row) {
  WaitForPrimary();
  const std::int64_t r = blockIdx.x / ctas_per_row;
  constexpr int kWords = sizeof(SamplingRow) / sizeof(std::uint32_t);
  if (threadIdx.x < kWords) {
    reinterpret_cast<std::uint32_t*>(&Shared().row)[threadIdx.x] =
        reinterpret_cast<const std::uint32_t*>(launch.table + r)[threadIdx.x];
  }
  __syncthreads();
  if (Shared().row.active != 0) SampleRow(launch, Shared().row, r);
}

__global__ void __launch_bounds__(kRowThreads, 1) ScoreKernel(ScoreLaunch launch, int ctas_per_row) {
  WaitForPrimary();
  const std::int64_t r = blockIdx.x / ctas_per_row;
  const int target = launch.targets[r];
  if (target < 0) return;
  const float* logits = launch.logits + r * launch.logits_stride;
  RowWork work(launch.vocab, launch.row_copies == nullptr ? nullptr : launch.row_copies + r * launch.logits_stride);
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
  work.group.Sync();
}

template <class Launch>
cudaError_t LaunchRows(void (*kernel)(Launch, int), void* stream, const SamplingPlan& plan, const Launch& launch,
                       bool dependent) {
  if (launch.rows == 0) return cudaSuccess;
  const cudaError_t status = cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize,
                                                  static_cast<int>(plan.shared_bytes));
  if (status != cudaSuccess) return status;
  cudaLaunchAttribute attributes[2] = {};
  unsigned count = 0;
  if (plan.ctas_per_row > 1) {
    attributes[count].id = cudaLaunchAttributeClusterDimension;
    attributes[count].val.clusterDim = {static_cast<unsigned>(plan.ctas_per_row), 1, 1};
    ++count;
  }
  if (dependent) {
    attributes[count].id = cudaLaunchAttributeProgrammaticStreamSerialization;
    attributes[count].val.programmaticStreamSerializationAllowed = 1;
    ++count;
  }
  cudaLaunchConfig_t config = {};
  config.gridDim = dim3(static_cast<unsigned>(launch.rows * plan.ctas_per_row));
  config.blockDim = dim3(kRowThreads);
  config.dynamicSmemBytes = plan.shared_bytes;
  config.stream = static_cast<cudaStream_t>(stream);
  config.attrs = attributes;
  config.numAttrs = count;
  return cudaLaunchKernelEx(&config, kernel, launch, plan.ctas_per_row);
}

}  // namespace

SamplingPlan PlanSampling(const SamplingDevice& device, std::int64_t vocab, std::int64_t rows) {
  const std::size_t room = device.shared_bytes_per_cta - kRowSharedBytes;
  const auto slice_bytes = [&](int ctas) { return SliceTokens(vocab, ctas) * sizeof(float); };
  SamplingPlan plan;
  while (plan.ctas_per_row < device.max_cluster &&
         (slice_bytes(plan.ctas_per_row) > room ||
          2 * plan.ctas_per_row * rows <= device.multiprocessors)) {
    plan.ctas_per_row *= 2;
  }
  plan.on_chip = slice_bytes(plan.ctas_per_row) <= room;
  plan.shared_bytes = kRowSharedBytes + (plan.on_chip ? slice_bytes(plan.ctas_per_row) : 0);
  return plan;
}

std::size_t SamplingScratchBytes(const SamplingPlan& plan, std::int64_t logits_stride, std::int64_t rows) {
  return plan.on_chip ? 0 : rows * logits_stride * sizeof(float);
}

int DescribeSamplingDevice(int device, SamplingDevice* description) {
  int shared = 0, major = 0;
  cudaError_t status =
      cudaDeviceGetAttribute(&description->multiprocessors, cudaDevAttrMultiProcessorCount, device);
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  }
  if (status == cudaSuccess) {
    status = cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, device);
  }
  description->shared_bytes_per_cta = static_cast<std::size_t>(shared);
  description->max_cluster = major >= 9 ? 8 : 1;
  return status;
}

int LaunchSample(void* stream, const SamplingPlan& plan, const SampleLaunch& launch, bool dependent) {
  return LaunchRows(&SampleKernel, stream, plan, launch, dependent);
}

int LaunchScoreRows(void* stream, const SamplingPlan& plan, const ScoreLaunch& launch, bool dependent) {
  return LaunchRows(&ScoreKernel, stream, plan, launch, dependent);
}

}  // namespace mambad::kernels
