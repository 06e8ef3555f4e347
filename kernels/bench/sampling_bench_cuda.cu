// Sampling, scoring and embedding lookup on a GPU: checked against the fp64 reference on fresh random rows,
// then timed by replays of a graph.
//
//   nvcc -std=c++20 -O3 -gencode arch=compute_90a,code=sm_90a -I. kernels/bench/sampling_bench_cuda.cu
//     kernels/sampling/sampling_cuda.cu kernels/embedding/embedding_cuda.cu -o sampling_bench_cuda
//   sampling_bench_cuda [all|check|time|small] [rows per case]
#include <cuda_runtime.h>

#include <algorithm>
#include <atomic>
#include <bit>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <thread>
#include <vector>

#include "kernels/base/dtype.h"
#include "kernels/embedding/embedding_cuda.h"
#include "kernels/math/exp_cuda.cuh"
#include "kernels/math/philox.h"
#include "kernels/reference/sampling_ref.h"
#include "kernels/sampling/sampling_cuda.h"

namespace mambad::kernels {
namespace {

using Random = std::mt19937_64;

constexpr double kLogprobTolerance = 20 * 0x1p-24 + 0x1p-19;  // as in tests/kernels/sampling_test.cc
constexpr double kDecisionMargin = 100 * 0x1p-23;
// With many tokens nearly every draw is near some boundary: a top-p or min-p decision is then skipped only
// when it is nearer than this, and the draw is held to the interval of its token, widened by kDecisionMargin.
constexpr double kNarrowMargin = 4e-7;
constexpr std::int64_t kManyTokens = 5000;

void Check(int status, const char* what) {
  if (status == 0) return;
  std::printf("%s: %s\n", what, cudaGetErrorString(static_cast<cudaError_t>(status)));
  std::exit(1);
}
#define CHECK_CUDA(call) Check(static_cast<int>(call), #call)

template <class T>
class DeviceArray {
 public:
  explicit DeviceArray(std::size_t count, int fill = 0xcc) : count_(count) {
    CHECK_CUDA(cudaMalloc(&data_, std::max<std::size_t>(count, 1) * sizeof(T)));
    CHECK_CUDA(cudaMemset(data_, fill, count * sizeof(T)));
  }
  explicit DeviceArray(const std::vector<T>& host) : DeviceArray(host.size()) { Set(host); }
  ~DeviceArray() { cudaFree(data_); }
  DeviceArray(const DeviceArray&) = delete;
  DeviceArray& operator=(const DeviceArray&) = delete;
  void Set(const std::vector<T>& host) {
    CHECK_CUDA(cudaMemcpy(data_, host.data(), host.size() * sizeof(T), cudaMemcpyHostToDevice));
  }
  std::vector<T> Get() const {
    std::vector<T> host(count_);
    CHECK_CUDA(cudaMemcpy(host.data(), data_, count_ * sizeof(T), cudaMemcpyDeviceToHost));
    return host;
  }
  T* data() const { return data_; }

 private:
  T* data_ = nullptr;
  std::size_t count_;
};

std::int64_t StrideOf(std::int64_t vocab) { return (vocab + 3) / 4 * 4 + 8; }

// A batch of rows, with its reference specifications.
struct Batch {
  std::int64_t vocab = 0;
  std::vector<float> logits;  // (rows, StrideOf(vocab)), NaN beyond V
  std::vector<SamplingRow> table;
  std::vector<SamplingListEntry> entries;
  std::vector<std::int32_t> tokens;  // of the step before, by slot
  std::vector<reference::SamplingSpec> specs;
  std::vector<bool> finite;

  std::int64_t rows() const { return static_cast<std::int64_t>(table.size()); }
  float* Row(std::int64_t r) { return logits.data() + r * StrideOf(vocab); }
  const float* Row(std::int64_t r) const { return logits.data() + r * StrideOf(vocab); }
};

template <class T>
T Pick(Random& random, std::initializer_list<T> values) {
  return *(values.begin() + random() % values.size());
}

// Shapes of rows: flat, wide, peaked, with ties, all equal, with an outlier far below.
void FillRow(float* row, std::int64_t vocab, Random& random) {
  std::normal_distribution<float> normal(0.0f, Pick(random, {0.0f, 0.02f, 0.5f, 1.0f, 3.0f, 8.0f}));
  const bool ties = random() % 4 == 0;
  const float offset = Pick(random, {0.0f, 0.0f, -4.0f, 6.0f});
  for (std::int64_t i = 0; i < vocab; ++i) {
    row[i] = normal(random) + offset;
    if (ties) row[i] = std::round(2 * row[i]) / 2;
  }
  if (random() % 4 == 0) {
    for (int i = 0; i < 5; ++i) row[random() % vocab] += 12.0f;
  }
  if (random() % 8 == 0) row[random() % vocab] = -1e30f;
}

SamplingRow RandomParams(Random& random) {
  SamplingRow row = {};
  row.seed = random();
  row.token_index = random() % 100000;
  row.candidate = random() % 5;
  row.active = 1;
  row.temperature = Pick(random, {0.0f, 0.3f, 0.7f, 1.0f, 1.0f, 1.7f, 100.0f});
  row.top_p = Pick(random, {1.0f, 1.0f, 0.999f, 0.95f, 0.9f, 0.5f, 1e-6f});
  row.min_p = Pick(random, {0.0f, 0.0f, 0.0f, 0.05f, 0.9f, 1.0f});
  row.top_k = Pick(random, {0, 0, 0, 1, 2, 40, 300, 5000, 1000000});
  row.repetition_penalty = Pick(random, {1.0f, 1.0f, 1.3f, 0.5f, 10.0f});
  row.presence_penalty = Pick(random, {0.0f, 0.0f, 1.5f, -2.0f});
  row.frequency_penalty = Pick(random, {0.0f, 0.0f, 0.3f, -1.0f});
  row.logprob = random() % 2 == 0;
  row.top_logprobs = Pick(random, {0, 0, 1, 5, 20});
  return row;
}

std::set<int> RandomTokens(Random& random, std::int64_t vocab, int count) {
  std::set<int> tokens;
  for (int i = 0; i < count; ++i) tokens.insert(static_cast<int>(random() % vocab));
  return tokens;
}

void AddLists(Batch& batch, SamplingRow& row, reference::SamplingSpec& spec, Random& random) {
  const auto here = [&] { return static_cast<std::int32_t>(batch.entries.size()); };
  row.bias_begin = here();
  if (random() % 2 == 0) {
    for (const int token : RandomTokens(random, batch.vocab, 4)) {
      const float bias = Pick(random, {-100.0f, -1.0f, 2.0f, 8.0f});
      batch.entries.push_back({token, std::bit_cast<std::int32_t>(bias)});
      spec.logit_bias[token] = bias;
    }
  }
  row.counts_begin = here();
  if (random() % 2 == 0) {
    for (const int token : RandomTokens(random, batch.vocab, Pick(random, {10, 2000}))) {
      const int count = static_cast<int>(random() % 4);
      batch.entries.push_back({token, count});
      spec.output_counts[token] = count;
    }
  }
  std::int32_t& previous = batch.tokens[row.token_slot];
  previous = static_cast<std::int32_t>(random() % batch.vocab);
  if (random() % 2 == 0 && !spec.output_counts.empty()) previous = spec.output_counts.begin()->first;
  row.count_previous = random() % 2;
  if (row.count_previous != 0) ++spec.output_counts[previous];
  row.suppressed_begin = here();
  if (random() % 3 == 0 && batch.vocab > 3) {
    for (const int token : RandomTokens(random, batch.vocab, 3)) {
      batch.entries.push_back({token, 0});
      spec.suppressed.insert(token);
    }
  }
  row.list_end = here();
}

Batch RandomBatch(std::int64_t vocab, std::int64_t rows, Random& random) {
  Batch batch;
  batch.vocab = vocab;
  batch.logits.assign(rows * StrideOf(vocab), std::numeric_limits<float>::quiet_NaN());
  batch.tokens.assign(rows, -7);
  batch.specs.resize(rows);
  std::vector<std::int32_t> slots(rows);
  std::iota(slots.begin(), slots.end(), 0);
  std::shuffle(slots.begin(), slots.end(), random);
  for (std::int64_t r = 0; r < rows; ++r) {
    FillRow(batch.Row(r), vocab, random);
    SamplingRow row = RandomParams(random);
    row.active = r % 17 != 3;
    row.token_slot = slots[r];
    reference::SamplingSpec& spec = batch.specs[r];
    spec.temperature = row.temperature;
    spec.top_p = row.top_p;
    spec.min_p = row.min_p;
    spec.repetition_penalty = row.repetition_penalty;
    spec.presence_penalty = row.presence_penalty;
    spec.frequency_penalty = row.frequency_penalty;
    spec.top_k = row.top_k;
    AddLists(batch, row, spec, random);
    batch.table.push_back(row);
    batch.finite.push_back(random() % 16 != 0);
    if (!batch.finite.back()) {
      constexpr float kInfinity = std::numeric_limits<float>::infinity();
      batch.Row(r)[random() % vocab] =
          Pick(random, {kInfinity, -kInfinity, std::numeric_limits<float>::quiet_NaN()});
    }
  }
  return batch;
}

struct Outcome {
  std::vector<SampledRow> results;
  std::vector<std::int32_t> tokens;
};

Outcome SampleOn(const Batch& batch, const SamplingPlan& plan) {
  const std::int64_t stride = StrideOf(batch.vocab);
  const DeviceArray<float> logits(batch.logits);
  const DeviceArray<SamplingRow> table(batch.table);
  const DeviceArray<SamplingListEntry> entries(batch.entries);
  const DeviceArray<std::int32_t> tokens(batch.tokens);
  const DeviceArray<SampledRow> results(batch.rows());
  const DeviceArray<float> copies(SamplingScratchBytes(plan, stride, batch.rows()) / sizeof(float));
  Check(LaunchSample(nullptr, plan,
                     {.logits = logits.data(),
                      .logits_stride = stride,
                      .vocab = batch.vocab,
                      .rows = batch.rows(),
                      .table = table.data(),
                      .entries = entries.data(),
                      .results = results.data(),
                      .tokens = tokens.data(),
                      .row_copies = plan.on_chip ? nullptr : copies.data()},
                     true),
        "sample");
  CHECK_CUDA(cudaDeviceSynchronize());
  const std::vector<float> after = logits.Get();
  if (std::memcmp(after.data(), batch.logits.data(), after.size() * sizeof(float)) != 0) {
    std::printf("the logits were changed\n");
    std::exit(1);
  }
  return {results.Get(), tokens.Get()};
}

struct Tally {
  std::atomic<int> rows{0}, decided{0}, skipped{0}, wrong{0};
  std::atomic<double> worst_draw{0}, worst_logprob{0};

  static void Raise(std::atomic<double>& worst, double value) {
    double seen = worst;
    while (value > seen && !worst.compare_exchange_weak(seen, value)) {
    }
  }
  void Wrong(const Batch& batch, std::int64_t r, const std::string& what) {
    if (++wrong > 10) return;
    const SamplingRow& p = batch.table[r];
    std::printf("WRONG V %ld row %ld: %s (T %g p %g min_p %g k %d rep %g)\n", batch.vocab, r, what.c_str(),
                p.temperature, p.top_p, p.min_p, p.top_k, p.repetition_penalty);
  }
};

void CheckTop(const Batch& batch, std::int64_t r, const SampledRow& got, const std::vector<double>& logprobs,
              Tally& tally) {
  const std::vector<float> row(batch.Row(r), batch.Row(r) + batch.vocab);
  const std::vector<int> order = reference::Order(row);
  for (int n = 0; n < got.top_count; ++n) {
    if (got.top_token[n] != order[n]) return tally.Wrong(batch, r, "top token " + std::to_string(n));
    const double error = std::fabs(got.top_logprob[n] - logprobs[order[n]]);
    Tally::Raise(tally.worst_logprob, error / std::max(1.0, std::fabs(logprobs[order[n]]) / 32));
  }
}

// How far the draw lies outside of its token's interval.
double DrawError(const std::vector<double>& probability, int token, double draw) {
  double below = 0;
  for (int i = 0; i < token; ++i) below += probability[i];
  return std::max({0.0, below - draw, draw - (below + probability[token])});
}

void CheckRow(const Batch& batch, std::int64_t r, const Outcome& outcome, Tally& tally) {
  const SamplingRow& params = batch.table[r];
  const SampledRow& got = outcome.results[r];
  ++tally.rows;
  if (params.active == 0) {
    SampledRow poison;
    std::memset(&poison, 0xcc, sizeof(poison));
    if (std::memcmp(&poison, &got, sizeof(got)) != 0 ||
        outcome.tokens[params.token_slot] != batch.tokens[params.token_slot]) {
      tally.Wrong(batch, r, "an inactive row was written");
    }
    return;
  }
  if (got.token < 0 || got.token >= batch.vocab) return tally.Wrong(batch, r, "token out of range");
  if (outcome.tokens[params.token_slot] != got.token) tally.Wrong(batch, r, "tokens differ");
  if ((got.finite != 0) != batch.finite[r]) return tally.Wrong(batch, r, "finite");
  if (!batch.finite[r]) return;

  const std::vector<double> logprobs = reference::LogSoftmax<double>(batch.Row(r), batch.vocab);
  const bool report = params.logprob != 0 || params.top_logprobs > 0;
  if (!report && got.logprob != 0.0f) tally.Wrong(batch, r, "logprob not asked for");
  if (report) {
    const double error = std::fabs(got.logprob - logprobs[got.token]);
    Tally::Raise(tally.worst_logprob, error / std::max(1.0, std::fabs(logprobs[got.token]) / 32));
  }
  if (got.top_count != std::min<std::int64_t>(params.top_logprobs, batch.vocab)) {
    return tally.Wrong(batch, r, "top count");
  }
  CheckTop(batch, r, got, logprobs, tally);

  const auto want = reference::SamplingDistribution<double>(batch.Row(r), batch.vocab, batch.specs[r]);
  const bool many = batch.vocab >= kManyTokens;
  if (want.margin < (many ? kNarrowMargin : kDecisionMargin)) {
    ++tally.skipped;
    return;
  }
  ++tally.decided;
  if (want.probability[got.token] == 0) return tally.Wrong(batch, r, "a token that is not kept");
  const double error =
      DrawError(want.probability, got.token, UniformDraw(params.seed, params.token_index, params.candidate));
  Tally::Raise(tally.worst_draw, error);
  if (error > kDecisionMargin) tally.Wrong(batch, r, "draw off by " + std::to_string(error));
}

void InParallel(std::int64_t count, const std::function<void(std::int64_t)>& work) {
  std::atomic<std::int64_t> next{0};
  std::vector<std::thread> threads;
  for (unsigned t = 0; t < std::max(1u, std::thread::hardware_concurrency()); ++t) {
    threads.emplace_back([&] {
      for (std::int64_t i = next++; i < count; i = next++) work(i);
    });
  }
  for (std::thread& thread : threads) thread.join();
}

SamplingDevice ThisDevice() {
  SamplingDevice device;
  Check(DescribeSamplingDevice(0, &device), "describe");
  return device;
}

// Every way to lay a row over the device.
std::vector<SamplingPlan> AllPlans(std::int64_t vocab) {
  const SamplingDevice device = ThisDevice();
  const std::size_t fixed = PlanSampling({{1}, device.shared_bytes_per_cta}, 1, 1).shared_bytes - 16;
  std::vector<SamplingPlan> plans;
  for (int step = 0; step < SamplingDevice::kClusterSizes && device.clusters_at_once[step] > 0; ++step) {
    const int ctas = 1 << step;
    const std::size_t slice = static_cast<std::size_t>((vocab + ctas - 1) / ctas + 3) / 4 * 16;
    if (fixed + slice <= device.shared_bytes_per_cta) plans.push_back({ctas, true, fixed + slice});
    if (ctas <= 2) plans.push_back({ctas, false, fixed});
  }
  return plans;
}

bool CheckSample(std::int64_t vocab, std::int64_t rows, Random& random) {
  const Batch batch = RandomBatch(vocab, rows, random);
  const std::vector<SamplingPlan> plans = AllPlans(vocab);
  const Outcome outcome = SampleOn(batch, plans[0]);
  Tally tally;
  InParallel(rows, [&](std::int64_t r) { CheckRow(batch, r, outcome, tally); });
  for (const SamplingPlan& plan : plans) {
    const Outcome other = SampleOn(batch, plan);
    for (std::int64_t r = 0; r < rows; ++r) {
      if (std::memcmp(&other.results[r], &outcome.results[r], sizeof(SampledRow)) != 0) {
        tally.Wrong(batch, r,
                    "differs with " + std::to_string(plan.ctas_per_row) + " CTAs" +
                        (plan.on_chip ? "" : " off chip") + ", finite " + std::to_string(batch.finite[r]) +
                        " token " + std::to_string(other.results[r].token) + " for " +
                        std::to_string(outcome.results[r].token));
      }
    }
    if (other.tokens != outcome.tokens) tally.Wrong(batch, 0, "tokens differ between plans");
  }
  if (tally.worst_logprob > kLogprobTolerance)
    tally.Wrong(batch, 0, "logprob " + std::to_string(tally.worst_logprob));
  std::printf(
      "sample V %6ld: %5d rows, %5d decided, %3d skipped, %2zu plans, draw off <= %.1e, logprob <= %.1e: "
      "%s\n",
      vocab, tally.rows.load(), tally.decided.load(), tally.skipped.load(), plans.size(),
      tally.worst_draw.load(), tally.worst_logprob.load(), tally.wrong == 0 ? "ok" : "WRONG");
  return tally.wrong == 0;
}

bool CheckScore(std::int64_t vocab, std::int64_t rows, Random& random) {
  Batch batch = RandomBatch(vocab, rows, random);
  const std::int64_t stride = StrideOf(vocab);
  constexpr int kTop = 7;
  std::vector<std::int32_t> targets;
  for (std::int64_t r = 0; r < rows; ++r) {
    targets.push_back(static_cast<std::int32_t>(random() % vocab));
    if (random() % 2 == 0 && batch.finite[r]) {
      targets[r] =
          static_cast<std::int32_t>(std::max_element(batch.Row(r), batch.Row(r) + vocab) - batch.Row(r));
    }
    if (r % 19 == 5) targets[r] = -1;
  }
  const DeviceArray<float> logits(batch.logits);
  const DeviceArray<std::int32_t> device_targets(targets);
  Tally tally;
  std::vector<ScoredRow> first;
  for (const SamplingPlan& plan : AllPlans(vocab)) {
    const DeviceArray<ScoredRow> results(rows);
    const DeviceArray<float> copies(SamplingScratchBytes(plan, stride, rows) / sizeof(float));
    Check(LaunchScoreRows(nullptr, plan,
                          {.logits = logits.data(),
                           .logits_stride = stride,
                           .vocab = vocab,
                           .rows = rows,
                           .targets = device_targets.data(),
                           .top_logprobs = kTop,
                           .results = results.data(),
                           .row_copies = plan.on_chip ? nullptr : copies.data()},
                          false),
          "score");
    CHECK_CUDA(cudaDeviceSynchronize());
    const std::vector<ScoredRow> got = results.Get();
    if (first.empty()) first = got;
    if (std::memcmp(first.data(), got.data(), rows * sizeof(ScoredRow)) != 0)
      tally.Wrong(batch, 0, "scores differ between plans");
  }
  InParallel(rows, [&](std::int64_t r) {
    const ScoredRow& got = first[r];
    if (targets[r] < 0) return;
    if ((got.finite != 0) != batch.finite[r]) return tally.Wrong(batch, r, "finite");
    if (!batch.finite[r]) return;
    const std::vector<float> row(batch.Row(r), batch.Row(r) + vocab);
    const std::vector<int> order = reference::Order(row);
    const std::vector<double> want = reference::LogSoftmax<double>(row.data(), vocab);
    const auto place = std::find(order.begin(), order.end(), targets[r]) - order.begin();
    if (got.rank != place + 1) tally.Wrong(batch, r, "rank");
    const double scale = std::max(1.0, std::fabs(want[targets[r]]) / 32);
    if (std::fabs(got.logprob - want[targets[r]]) > kLogprobTolerance * scale)
      tally.Wrong(batch, r, "logprob");
    if (got.top_count != std::min<std::int64_t>(kTop, vocab)) tally.Wrong(batch, r, "top count");
    for (int n = 0; n < got.top_count; ++n) {
      if (got.top_token[n] != order[n]) return tally.Wrong(batch, r, "top token");
    }
  });
  std::printf("score  V %6ld: %5ld rows: %s\n", vocab, rows, tally.wrong == 0 ? "ok" : "WRONG");
  return tally.wrong == 0;
}

bool CheckExtreme() {
  constexpr float kHuge = std::numeric_limits<float>::max();
  Batch batch;
  batch.vocab = 5;
  for (const float penalty : {1e-30f, 10.0f}) {
    for (const float temperature : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-30f, 1.0f, 100.0f}) {
      for (const bool suppress : {false, true}) {
        for (const float value : {kHuge, -kHuge, 0.0f, kHuge, 1e-40f}) batch.logits.push_back(value);
        batch.logits.resize((batch.table.size() + 1) * StrideOf(5));
        SamplingRow row = {};
        row.active = 1;
        row.temperature = temperature;
        row.top_p = 0.5f;
        row.min_p = 0.1f;
        row.repetition_penalty = penalty;
        row.top_k = 3;
        row.token_slot = kNoTokenSlot;
        const auto here = [&] { return static_cast<std::int32_t>(batch.entries.size()); };
        row.bias_begin = here();
        batch.entries.push_back({1, std::bit_cast<std::int32_t>(-100.0f)});
        batch.entries.push_back({3, std::bit_cast<std::int32_t>(100.0f)});
        row.counts_begin = here();
        for (const SamplingListEntry entry : {SamplingListEntry{0, 5}, {1, 5}, {3, 0}})
          batch.entries.push_back(entry);
        row.suppressed_begin = here();
        if (suppress) {
          for (const int token : {0, 1, 3, 4}) batch.entries.push_back({token, 0});
        }
        row.list_end = here();
        batch.table.push_back(row);
      }
    }
  }
  batch.tokens = {0};
  bool right = true;
  for (const SamplingPlan& plan : AllPlans(5)) {
    const Outcome outcome = SampleOn(batch, plan);
    for (std::size_t r = 0; r < batch.table.size(); ++r) {
      const SampledRow& got = outcome.results[r];
      right = right && got.finite == 1 && got.token >= 0 && got.token < 5;
      if (r % 2 == 1) right = right && got.token == 2;
    }
  }
  std::printf("extreme logits and parameters: %s\n", right ? "ok" : "WRONG");
  return right;
}

bool CheckEmbedding(Random& random) {
  bool right = true;
  for (const std::int64_t cols : {768, 2560, 24, 37}) {
    constexpr std::int64_t kVocab = 301, kRows = 67;
    const std::int64_t padded = (cols + 63) / 64 * 64, ldo = cols + (cols % 4 == 0 ? 4 : 3);
    std::vector<float> rows_f32(kVocab * cols);
    std::vector<std::uint16_t> rows_bf16(kVocab * cols), packed((kVocab + 127) / 128 * 128 * padded);
    for (std::int64_t v = 0; v < kVocab; ++v) {
      for (std::int64_t c = 0; c < cols; ++c) {
        const std::uint16_t bits = FloatToBf16(static_cast<float>(random() % 20000) / 7000.0f - 1.0f);
        rows_bf16[v * cols + c] = packed[((v / 8 * (padded / 8) + c / 8) * 8 + v % 8) * 8 + c % 8] = bits;
        rows_f32[v * cols + c] = Bf16ToFloat(bits);
      }
    }
    std::vector<std::int32_t> ids(kRows), index(kRows);
    for (std::int64_t r = 0; r < kRows; ++r) {
      ids[r] = r % 11 == 4 ? -1 : static_cast<std::int32_t>(random() % kVocab);
      index[r] = r % 13 == 6 ? -1 : static_cast<std::int32_t>(random() % kRows);
    }
    const DeviceArray<float> f32(rows_f32);
    const DeviceArray<std::uint16_t> bf16(rows_bf16), core(packed);
    const DeviceArray<std::int32_t> device_ids(ids), device_index(index);
    for (int which = 0; which < 6; ++which) {
      const DeviceArray<float> out(kRows * ldo);
      const void* tables[] = {f32.data(), bf16.data(), core.data()};
      Check(LaunchEmbedding(nullptr,
                            {.table = tables[which % 3],
                             .layout = static_cast<EmbeddingLayout>(which % 3),
                             .vocab = kVocab,
                             .cols = cols,
                             .ids = device_ids.data(),
                             .id_index = which < 3 ? nullptr : device_index.data(),
                             .out = out.data(),
                             .ldo = ldo,
                             .rows = kRows},
                            which % 2 == 0),
            "embedding");
      CHECK_CUDA(cudaDeviceSynchronize());
      const std::vector<float> got = out.Get();
      for (std::int64_t r = 0; r < kRows; ++r) {
        const int at = which < 3 ? static_cast<int>(r) : index[r];
        const int id = at < 0 ? -1 : ids[at];
        for (std::int64_t c = 0; c < ldo; ++c) {
          const std::uint32_t want =
              id < 0 || c >= cols ? 0xccccccccu : std::bit_cast<std::uint32_t>(rows_f32[id * cols + c]);
          right = right && std::bit_cast<std::uint32_t>(got[r * ldo + c]) == want;
        }
      }
    }
  }
  std::printf("embedding: %s\n", right ? "ok" : "WRONG");
  return right;
}

__global__ void MeasureExp2(std::uint64_t seed, float* worst) {
  const std::uint64_t i = blockIdx.x * std::uint64_t{blockDim.x} + threadIdx.x;
  const PhiloxWords bits =
      Philox4x32({{static_cast<std::uint32_t>(i), 0, 0, 0}}, static_cast<std::uint32_t>(seed), 7);
  float most = 0;
  for (int j = 0; j < 4; ++j) {
    const float x = -ldexpf(bits.w[j] * 0x1p-32f, j == 0 ? 0 : 2 * j);  // to -1, -4, -16, -64
    const double want = exp2(static_cast<double>(x));
    most = fmaxf(most, static_cast<float>(fabs(Exp2Approx(x) - want) / want));
  }
  atomicMax(reinterpret_cast<int*>(worst), __float_as_int(most));
}

bool CheckExp2(Random& random) {
  const DeviceArray<float> worst(1, 0);
  MeasureExp2<<<1 << 14, 256>>>(random(), worst.data());
  CHECK_CUDA(cudaDeviceSynchronize());
  const double error = worst.Get()[0];
  std::printf("exp2: relative error <= 2^%.2f over %d arguments\n", std::log2(error), 1 << 24);
  return error <= 0x1p-22;
}

// Median over replays of the time of one launch out of a graph of many.
double MicrosPerLaunch(int launches, const std::function<int(cudaStream_t, int)>& launch) {
  cudaStream_t stream;
  CHECK_CUDA(cudaStreamCreate(&stream));
  cudaGraph_t graph;
  cudaGraphExec_t exec;
  CHECK_CUDA(cudaStreamBeginCapture(stream, cudaStreamCaptureModeThreadLocal));
  for (int i = 0; i < launches; ++i) Check(launch(stream, i), "launch");
  CHECK_CUDA(cudaStreamEndCapture(stream, &graph));
  CHECK_CUDA(cudaGraphInstantiate(&exec, graph, 0));
  cudaEvent_t begin, end;
  CHECK_CUDA(cudaEventCreate(&begin));
  CHECK_CUDA(cudaEventCreate(&end));
  std::vector<float> times;
  for (int i = 0; i < 13; ++i) {
    CHECK_CUDA(cudaEventRecord(begin, stream));
    CHECK_CUDA(cudaGraphLaunch(exec, stream));
    CHECK_CUDA(cudaEventRecord(end, stream));
    CHECK_CUDA(cudaEventSynchronize(end));
    float ms;
    CHECK_CUDA(cudaEventElapsedTime(&ms, begin, end));
    if (i >= 3) times.push_back(ms * 1000 / launches);
  }
  CHECK_CUDA(cudaGraphExecDestroy(exec));
  CHECK_CUDA(cudaGraphDestroy(graph));
  CHECK_CUDA(cudaStreamDestroy(stream));
  std::sort(times.begin(), times.end());
  return times[times.size() / 2];
}

struct Mode {
  const char* name;
  SamplingRow params;
  int counts = 0;
};

SamplingRow Params(float temperature, float top_p, int top_k = 0, float min_p = 0, int logprob = 0,
                   int top = 0) {
  SamplingRow row = {};
  row.active = 1;
  row.temperature = temperature;
  row.top_p = top_p;
  row.top_k = top_k;
  row.min_p = min_p;
  row.logprob = logprob;
  row.top_logprobs = top;
  row.repetition_penalty = 1.0f;
  return row;
}

// Which cluster size serves how many rows best.
void TimePlans(std::int64_t vocab) {
  constexpr std::int64_t kPool = 768;
  const SamplingDevice device = ThisDevice();
  const std::size_t fixed = PlanSampling({{1}, device.shared_bytes_per_cta}, 1, 1).shared_bytes - 16;
  Random random(5);
  std::vector<float> host(kPool * vocab);
  for (float& value : host) value = static_cast<float>(random() % 100000) * 1e-4f;
  const DeviceArray<float> logits(host);
  std::printf("V %ld, microseconds by CTAs a row, greedy and top_p .95\n", vocab);
  for (const std::int64_t rows : {1, 4, 8, 16, 32, 64, 128}) {
    std::printf("rows %3ld, planned %d:", rows, PlanSampling(device, vocab, rows).ctas_per_row);
    for (const int ctas : {1, 2, 4, 8}) {
      const SamplingPlan plan{ctas, true, fixed + ((vocab + ctas - 1) / ctas + 3) / 4 * 16};
      std::printf("  %d:", ctas);
      for (const SamplingRow& params : {Params(0, 1), Params(1, 0.95f)}) {
        const DeviceArray<SamplingRow> table(std::vector<SamplingRow>(rows, params));
        const DeviceArray<SampledRow> results(rows);
        const int launches =
            static_cast<int>(std::min<std::int64_t>(200, std::max<std::int64_t>(24, kPool / rows)));
        std::printf(" %.2f", MicrosPerLaunch(launches, [&](cudaStream_t stream, int i) {
                      const float* base = logits.data() + i * rows % kPool * vocab;
                      return LaunchSample(
                          stream, plan,
                          {base, vocab, vocab, rows, table.data(), nullptr, results.data(), nullptr, nullptr},
                          true);
                    }));
      }
    }
    std::printf("\n");
  }
}

void Time(std::int64_t vocab) {
  SamplingRow penalized = Params(1, 0.95f);
  penalized.repetition_penalty = 1.1f;
  const Mode modes[] = {{"greedy", Params(0, 1)},
                        {"T 1", Params(1, 1)},
                        {"T .7", Params(0.7f, 1)},
                        {"top_p .95", Params(1, 0.95f)},
                        {"T .7 top_p .9", Params(0.7f, 0.9f)},
                        {"top_k 40", Params(1, 1, 40)},
                        {"k 40 p .95", Params(1, 0.95f, 40)},
                        {"min_p .05", Params(1, 1, 0, 0.05f)},
                        {"p .95 rep 500", penalized, 500},
                        {"greedy logprob", Params(0, 1, 0, 0, 1)},
                        {"greedy top 20", Params(0, 1, 0, 0, 1, 20)},
                        {"score top 0", Params(-1, 1, 0, 0, 0, 0)},
                        {"score top 20", Params(-1, 1, 0, 0, 0, 20)}};
  const std::int64_t counts[] = {1, 8, 32, 64, 128, 256};
  const char* shapes[] = {"normal sd 1", "normal sd 3", "peaked", "all equal"};
  Random random(5);
  const SamplingDevice device = ThisDevice();
  std::printf("clusters at once: %d %d %d %d\n", device.clusters_at_once[0], device.clusters_at_once[1],
              device.clusters_at_once[2], device.clusters_at_once[3]);
  for (int shape = 0; shape < 4; ++shape) {
    std::printf(
        "V %ld, %s: microseconds, rows from device memory; last column 128 rows left in the L2\n%-15s", vocab,
        shapes[shape], "rows");
    for (const std::int64_t rows : counts) std::printf(" %8ld", rows);
    std::printf("  128 L2\n");
    constexpr std::int64_t kPool = 768;
    std::vector<float> host(64 * vocab);
    std::normal_distribution<float> normal(0.0f, shape == 0 ? 1.0f : shape == 3 ? 0.0f : 3.0f);
    for (float& value : host) value = normal(random);
    if (shape == 2) {
      for (int r = 0; r < 64; ++r) {
        for (int i = 0; i < 6; ++i) host[r * vocab + random() % vocab] = 18.0f - i;
      }
    }
    DeviceArray<float> logits(kPool * vocab);
    for (std::int64_t r = 0; r < kPool; r += 64) {
      CHECK_CUDA(cudaMemcpy(logits.data() + r * vocab, host.data(), host.size() * sizeof(float),
                            cudaMemcpyHostToDevice));
    }
    for (const Mode& mode : modes) {
      std::printf("%-15s", mode.name);
      std::vector<SamplingRow> table(512, mode.params);
      std::vector<SamplingListEntry> entries;
      for (std::size_t r = 0; r < table.size(); ++r) {
        table[r].seed = random();
        table[r].token_slot = static_cast<std::int32_t>(r);
        table[r].bias_begin = table[r].counts_begin = static_cast<std::int32_t>(entries.size());
        for (int i = 0; i < mode.counts; ++i) entries.push_back({static_cast<std::int32_t>(100 * i), i % 3});
        table[r].suppressed_begin = table[r].list_end = static_cast<std::int32_t>(entries.size());
      }
      const DeviceArray<SamplingRow> device_table(table);
      const DeviceArray<SamplingListEntry> device_entries(entries);
      const DeviceArray<SampledRow> results(512);
      const DeviceArray<ScoredRow> scores(512);
      const DeviceArray<std::int32_t> tokens(512, 0);
      const auto time = [&](std::int64_t rows, std::int64_t pool) {
        const SamplingPlan plan = PlanSampling(device, vocab, rows);
        const int launches =
            static_cast<int>(std::min<std::int64_t>(200, std::max<std::int64_t>(24, pool / rows)));
        return MicrosPerLaunch(launches, [&](cudaStream_t stream, int i) {
          const float* base = logits.data() + i * rows % pool * vocab;
          if (mode.params.temperature < 0) {
            return LaunchScoreRows(
                stream, plan,
                {base, vocab, vocab, rows, tokens.data(), mode.params.top_logprobs, scores.data(), nullptr},
                true);
          }
          return LaunchSample(stream, plan,
                              {base, vocab, vocab, rows, device_table.data(), device_entries.data(),
                               results.data(), tokens.data(), nullptr},
                              true);
        });
      };
      for (const std::int64_t rows : counts) std::printf(" %8.2f", time(rows, kPool));
      std::printf(" %7.2f\n", time(128, 128));
    }
  }
}

}  // namespace
}  // namespace mambad::kernels

int main(int argc, char** argv) {
  using namespace mambad::kernels;
  const std::string what = argc > 1 ? argv[1] : "all";
  const std::int64_t scale = argc > 2 ? std::atoi(argv[2]) : 512;
  cudaDeviceProp properties;
  CHECK_CUDA(cudaGetDeviceProperties(&properties, 0));
  std::printf("%s\n", properties.name);
  bool right = true;
  if (what == "small") {  // for compute-sanitizer
    Random random(1);
    right = CheckEmbedding(random) && CheckExtreme();
    for (const std::int64_t vocab : {1000, 7, 9000}) right = CheckSample(vocab, scale, random) && right;
    right = CheckScore(1000, scale, random) && right;
    return right ? 0 : 1;
  }
  if (what != "time") {
    std::random_device seed;
    Random random(seed());
    right = CheckExp2(random) && right;
    right = CheckEmbedding(random) && right;
    right = CheckExtreme() && right;
    for (const std::int64_t vocab : {1, 2, 7, 129, 1000, 2600})
      right = CheckSample(vocab, 2 * scale, random) && right;
    for (const std::int64_t vocab : {50280, 65024}) right = CheckSample(vocab, 2 * scale, random) && right;
    right = CheckSample(250007, scale / 4, random) && right;
    for (const std::int64_t vocab : {1, 5, 999, 50280}) right = CheckScore(vocab, scale / 2, random) && right;
  }
  if (what != "check" && right) {
    TimePlans(50280);
    Time(50280);
  }
  return right ? 0 : 1;
}
