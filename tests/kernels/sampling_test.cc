#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/math/philox.h"
#include "kernels/reference/sampling_ref.h"
#include "kernels/sampling/prefix_select.h"
#include "kernels/sampling/sampler.h"
#include "tests/support/cpu_device.h"
#include "tests/support/random_floats.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// A log-probability is a difference of numbers of the size of a logit: the logits are exact, and the result
// is rounded to fp32 (at most 2^-20 for |logprob| < 32). The rest is the error of the sum of exponentials. On
// the CPU: 2 ulp per term and 13 roundings of its tree. On a GPU, whose sum is exact: per term 2^-22 and
// three roundings of the exponent x, 3 * 2^-24 |x|; the mean of |x| by weight is at most ln V (the entropy
// is, and it is that mean plus the logarithm of the sum), 8 here: together 28 * 2^-24, within 20 * 2^-24 and
// the half of 2^-19 that rounding leaves.
constexpr double kLogprobTolerance = 20 * 0x1p-24 + 0x1p-19;

// Weights carry the error of exp, and the roundings of (l - max) / temperature times that quotient (at most
// 87, so on the CPU 2 ulp + 87; on a GPU four roundings, but weighed as above: twice 36 * 2^-24, for a part
// and the sum). Draws nearer than this to a boundary of the distribution, and thresholds decided by less, may
// fall on either side.
constexpr double kDecisionMargin = 100 * 0x1p-23;

// One row with all that a draw depends on.
struct Row {
  std::vector<float> logits;
  SamplingParams params;
  SamplingKey key;
  std::vector<LogitBias> logit_bias;
  std::vector<TokenCount> token_counts;
  std::vector<std::int32_t> suppressed;

  reference::SamplingSpec Spec() const {
    reference::SamplingSpec spec = {.temperature = params.temperature,
                                    .top_p = params.top_p,
                                    .min_p = params.min_p,
                                    .repetition_penalty = params.repetition_penalty,
                                    .presence_penalty = params.presence_penalty,
                                    .frequency_penalty = params.frequency_penalty,
                                    .top_k = params.top_k};
    for (const LogitBias& bias : logit_bias) spec.logit_bias[bias.token] = bias.bias;
    for (const TokenCount& count : token_counts) spec.output_counts[count.token] = count.output_count;
    spec.suppressed = {suppressed.begin(), suppressed.end()};
    return spec;
  }
};

// What a test runs on: a path of the CPU, or none for a GPU.
using Target = std::optional<CpuPath>;

std::vector<Target> TargetsToTest() {
  if (TestsRunOnGpu()) return {std::nullopt};
  const std::vector<CpuPath> paths = PathsToTest();
  return {paths.begin(), paths.end()};
}

// A device with samplers, which are kept: on a GPU they are slow to make.
class Subject {
 public:
  Subject(Target target, int threads)
      : device_(target.has_value() ? DeviceOn(*target, threads)
                                   : Device::Create({.kind = DeviceKind::kCuda, .threads = threads}).value()),
        stream_(Stream::Create(*device_).value()) {}

  static std::int64_t Stride(std::int64_t vocab) { return (vocab + 7) / 4 * 4; }

  Device& device() { return *device_; }
  Stream& stream() { return *stream_; }
  Sampler& SamplerOf(std::int64_t vocab) {
    std::unique_ptr<Sampler>& sampler = samplers_[vocab];
    if (sampler == nullptr) {
      sampler =
          Sampler::Create(*device_, {.vocab = vocab, .stride = Stride(vocab), .rows_max = kRowsMax}).value();
    }
    return *sampler;
  }

  std::vector<SampledToken> Sample(const std::vector<Row>& rows) {
    const std::int64_t vocab = rows[0].logits.size(), stride = Stride(vocab);
    TestVector<float> logits(rows.size() * stride, kNan);
    std::vector<SamplingParams> params;
    std::vector<SamplingKey> keys;
    std::vector<LogitBias> biases;
    std::vector<TokenCount> counts;
    std::vector<std::int32_t> suppressed;
    std::vector<std::int64_t> bias_offsets = {0}, count_offsets = {0}, suppressed_offsets = {0};
    for (std::size_t r = 0; r < rows.size(); ++r) {
      std::copy(rows[r].logits.begin(), rows[r].logits.end(), logits.begin() + r * stride);
      params.push_back(rows[r].params);
      keys.push_back(rows[r].key);
      biases.insert(biases.end(), rows[r].logit_bias.begin(), rows[r].logit_bias.end());
      counts.insert(counts.end(), rows[r].token_counts.begin(), rows[r].token_counts.end());
      suppressed.insert(suppressed.end(), rows[r].suppressed.begin(), rows[r].suppressed.end());
      bias_offsets.push_back(biases.size());
      count_offsets.push_back(counts.size());
      suppressed_offsets.push_back(suppressed.size());
    }
    std::vector<SampledToken> results(rows.size());
    const absl::Status status =
        SamplerOf(vocab).Sample(*stream_, {.logits = logits.data(),
                                           .params = params,
                                           .keys = keys,
                                           .logit_bias = {biases, bias_offsets},
                                           .token_counts = {counts, count_offsets},
                                           .suppressed = {suppressed, suppressed_offsets},
                                           .results = results});
    EXPECT_TRUE(status.ok()) << status;
    return results;
  }

 private:
  static constexpr std::int64_t kRowsMax = 300;

  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  std::map<std::int64_t, std::unique_ptr<Sampler>> samplers_;
};

class SamplingTest : public ::testing::TestWithParam<Target> {
 protected:
  Subject subject_ = Subject(GetParam(), 2);

  std::vector<SampledToken> SampleAll(const std::vector<Row>& rows) { return subject_.Sample(rows); }
};

// Parameters in every combination, over vocabularies around the block sizes.
std::vector<Row> Combinations(std::int64_t vocab, unsigned seed) {
  std::mt19937 random(seed);
  const auto pick = [&](std::initializer_list<float> values) {
    return *(values.begin() + random() % values.size());
  };
  const auto tokens = [&](std::size_t count) {
    std::set<std::int32_t> chosen;
    for (std::size_t i = 0; i < count; ++i) chosen.insert(random() % vocab);
    return chosen;
  };
  std::vector<Row> rows;
  for (std::uint32_t i = 0; i < 200; ++i) {
    Row row;
    row.logits = RandomFloats(vocab, seed + i, 0.0f, pick({0.0f, 0.5f, 3.0f, 8.0f}));
    // Equal logits put the order of ids to the test.
    if (random() % 3 == 0) {
      for (float& logit : row.logits) logit = std::round(logit);
    }
    row.params.temperature = pick({0.0f, 0.3f, 1.0f, 1.0f, 1.7f, 100.0f});
    row.params.top_p = pick({1.0f, 1.0f, 0.999f, 0.9f, 0.5f, 1e-6f});
    row.params.min_p = pick({0.0f, 0.0f, 0.05f, 0.9f, 1.0f});
    row.params.top_k = static_cast<std::int32_t>(pick({0, 0, 1, 2, 40, 300, 1e6f}));
    row.params.repetition_penalty = pick({1.0f, 1.0f, 1.3f, 0.5f, 10.0f});
    row.params.presence_penalty = pick({0.0f, 0.0f, 1.5f, -2.0f});
    row.params.frequency_penalty = pick({0.0f, 0.0f, 0.3f, -1.0f});
    row.params.logprob = random() % 2 == 0;
    row.params.top_logprobs = static_cast<std::int32_t>(pick({0, 1, 5, 20}));
    row.key = {.seed = seed * 1000ull + i, .token_index = i, .candidate = i % 5};
    if (random() % 2 == 0) {
      for (const std::int32_t token : tokens(4))
        row.logit_bias.push_back({token, pick({-100.0f, -1.0f, 2.0f, 8.0f})});
    }
    if (random() % 2 == 0) {
      for (const std::int32_t token : tokens(10)) {
        row.token_counts.push_back({token, static_cast<std::int32_t>(random() % 4)});
      }
    }
    if (random() % 3 == 0 && vocab > 3) {
      for (const std::int32_t token : tokens(3)) row.suppressed.push_back(token);
    }
    rows.push_back(row);
  }
  return rows;
}

// True when the draw lies too near to a boundary between two tokens to demand one of them.
bool NearABoundary(const std::vector<double>& probability, double draw) {
  double sum = 0;
  for (const double p : probability) {
    sum += p;
    if (p > 0 && std::fabs(sum - draw) < kDecisionMargin) return true;
  }
  return false;
}

TEST_P(SamplingTest, EveryCombinationOfParametersDrawsAsTheReferenceDoes) {
  int decided = 0, rows_seen = 0;
  for (const std::int64_t vocab : {1, 2, 7, 255, 256, 257, 1000, 2600}) {
    const std::vector<Row> rows = Combinations(vocab, static_cast<unsigned>(vocab));
    const std::vector<SampledToken> results = SampleAll(rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const Row& row = rows[i];
      const auto want = reference::SamplingDistribution<double>(row.logits.data(), vocab, row.Spec());
      ++rows_seen;
      ASSERT_TRUE(results[i].finite);
      ASSERT_TRUE(results[i].token >= 0 && results[i].token < vocab);
      const double draw = UniformDraw(row.key.seed, row.key.token_index, row.key.candidate);
      if (want.margin < kDecisionMargin || NearABoundary(want.probability, draw)) continue;
      ++decided;
      ASSERT_EQ(results[i].token, reference::Pick(want.probability, draw))
          << "V " << vocab << " row " << i << " temperature " << row.params.temperature << " k "
          << row.params.top_k << " p " << row.params.top_p << " min_p " << row.params.min_p;
    }
  }
  EXPECT_GT(decided, rows_seen * 3 / 4);
}

TEST_P(SamplingTest, LogProbabilitiesAreThoseOfTheRawRow) {
  for (const std::int64_t vocab : {1, 3, 19, 256, 777}) {
    const std::vector<Row> rows = Combinations(vocab, 77);
    const std::vector<SampledToken> results = SampleAll(rows);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const std::vector<double> want = reference::LogSoftmax<double>(rows[i].logits.data(), vocab);
      const SamplingParams& params = rows[i].params;
      if (params.logprob || params.top_logprobs > 0) {
        ASSERT_NEAR(results[i].logprob, want[results[i].token], kLogprobTolerance);
      } else {
        ASSERT_EQ(results[i].logprob, 0.0f);
      }
      const TopLogprobs& top = results[i].top;
      const std::vector<int> order = reference::Order(rows[i].logits);
      ASSERT_EQ(top.count, std::min<std::int64_t>(params.top_logprobs, vocab));
      for (std::int32_t n = 0; n < top.count; ++n) {
        ASSERT_EQ(top.tokens[n].token, order[n]) << "V " << vocab << " n " << n;
        ASSERT_NEAR(top.tokens[n].logprob, want[order[n]], kLogprobTolerance);
      }
    }
  }
}

bool Same(const SampledToken& a, const SampledToken& b) {
  if (a.token != b.token || a.finite != b.finite || a.top.count != b.top.count) return false;
  if (std::memcmp(&a.logprob, &b.logprob, sizeof(float)) != 0) return false;
  for (std::int32_t n = 0; n < a.top.count; ++n) {
    if (a.top.tokens[n].token != b.top.tokens[n].token ||
        std::memcmp(&a.top.tokens[n].logprob, &b.top.tokens[n].logprob, sizeof(float)) != 0) {
      return false;
    }
  }
  return true;
}

TEST_P(SamplingTest, ARowDependsOnItselfAlone) {
  const std::vector<Row> rows = Combinations(600, 5);
  const std::vector<SampledToken> together = SampleAll(rows);
  Row poisoned;
  poisoned.logits.assign(600, kNan);
  for (int threads = 1; threads <= 3; ++threads) {
    Subject subject(GetParam(), threads);
    for (std::size_t i = 0; i < rows.size(); ++i) {
      ASSERT_TRUE(Same(subject.Sample({rows[i]})[0], together[i])) << i;
      const std::vector<SampledToken> beside =
          subject.Sample({poisoned, rows[(i + 1) % rows.size()], rows[i], poisoned});
      ASSERT_TRUE(Same(beside[2], together[i])) << i;
      ASSERT_FALSE(beside[0].finite);
      ASSERT_FALSE(beside[3].finite);
    }
  }
}

TEST_P(SamplingTest, ANonFiniteLogitMarksItsRowWhereverItStands) {
  for (const float poison : {kNan, kInfinity, -kInfinity}) {
    for (const std::int64_t vocab : {1, 9, 256, 300}) {
      for (const std::int64_t at : {std::int64_t{0}, vocab / 2, vocab - 1}) {
        Row row;
        row.logits = RandomFloats(vocab, 1);
        ASSERT_TRUE(SampleAll({row})[0].finite);
        row.logits[at] = poison;
        for (const float temperature : {0.0f, 1.0f}) {
          row.params.temperature = temperature;
          const SampledToken result = SampleAll({row})[0];
          ASSERT_FALSE(result.finite);
          ASSERT_TRUE(result.token >= 0 && result.token < vocab);
        }
      }
    }
  }
}

TEST_P(SamplingTest, ExtremeLogitsAndParametersStillDrawAnAllowedToken) {
  constexpr float kHuge = std::numeric_limits<float>::max();
  Row row;
  row.logits = {kHuge, -kHuge, 0.0f, kHuge, 1e-40f};
  row.token_counts = {{0, 5}, {1, 5}, {3, 0}};
  row.logit_bias = {{1, -100.0f}, {3, 100.0f}};
  for (const float penalty : {1e-30f, 10.0f}) {
    for (const float temperature : {0.0f, std::numeric_limits<float>::denorm_min(), 1e-30f, 1.0f, 100.0f}) {
      row.params = {.temperature = temperature,
                    .top_p = 0.5f,
                    .min_p = 0.1f,
                    .repetition_penalty = penalty,
                    .top_k = 3};
      row.suppressed = {};
      EXPECT_TRUE(SampleAll({row})[0].finite);
      row.suppressed = {0, 1, 3, 4};
      EXPECT_EQ(SampleAll({row})[0].token, 2);
    }
  }
}

TEST_P(SamplingTest, GreedyTakesTheLowestIdOfEqualLogits) {
  Row row;
  row.params.temperature = 0.0f;
  row.logits.assign(1000, -5.0f);
  EXPECT_EQ(SampleAll({row})[0].token, 0);
  row.logits[999] = row.logits[530] = row.logits[531] = 2.0f;
  EXPECT_EQ(SampleAll({row})[0].token, 530);
  row.suppressed = {530};
  EXPECT_EQ(SampleAll({row})[0].token, 531);
}

// More list entries than one launch on a GPU takes: 300 rows with a count for each of 4096 tokens.
TEST_P(SamplingTest, ListsMayBeOfAnyTotalLength) {
  constexpr std::int32_t kVocab = 4096;
  std::vector<Row> rows(300);
  for (std::size_t r = 0; r < rows.size(); ++r) {
    rows[r].logits.assign(kVocab, 1.0f);
    rows[r].params = {.temperature = 0.0f, .frequency_penalty = 1.0f};
    for (std::int32_t token = 0; token < kVocab; ++token) rows[r].token_counts.push_back({token, 1});
    rows[r].token_counts[(r * 613) % kVocab].output_count = 0;
  }
  const std::vector<SampledToken> results = SampleAll(rows);
  for (std::size_t r = 0; r < rows.size(); ++r) ASSERT_EQ(results[r].token, (r * 613) % kVocab) << r;
}

// Pearson's statistic of 20000 draws against the reference's distribution. Fixed seeds, so the outcome is
// fixed too; 5 standard deviations (sqrt(2 * cells)) above its mean would be one case in a million for a
// right sampler.
TEST_P(SamplingTest, DrawsFollowTheDistribution) {
  constexpr int kDraws = 20000;
  for (int which = 0; which < 4; ++which) {
    Row row;
    row.logits = RandomFloats(which == 0 ? 20 : 700, 11, 0.0f, 1.5f);
    if (which == 1) row.params = {.temperature = 0.7f, .top_p = 0.8f};
    if (which == 2) row.params = {.temperature = 1.3f, .top_k = 50};
    if (which == 3) row.params = {.temperature = 1.0f, .min_p = 0.1f};
    std::vector<Row> rows(kDraws / 100, row);
    const auto want =
        reference::SamplingDistribution<double>(row.logits.data(), row.logits.size(), row.Spec());
    std::vector<int> seen(row.logits.size());
    for (int i = 0; i < 100; ++i) {
      for (std::size_t r = 0; r < rows.size(); ++r) {
        // Half of the draws vary the token index, half the seed.
        rows[r].key = i % 2 == 0 ? SamplingKey{.seed = 99, .token_index = i * rows.size() + r}
                                 : SamplingKey{.seed = i * rows.size() + r, .candidate = 3};
      }
      for (const SampledToken& result : SampleAll(rows)) ++seen[result.token];
    }
    double statistic = 0, rest_expected = 0, rest_seen = 0;
    int cells = 0;
    for (std::size_t token = 0; token < seen.size(); ++token) {
      const double expected = want.probability[token] * kDraws;
      if (expected == 0) {
        ASSERT_EQ(seen[token], 0) << token;
      } else if (expected < 8) {  // too few for the approximation: pooled
        rest_expected += expected;
        rest_seen += seen[token];
      } else {
        ++cells;
        statistic += (seen[token] - expected) * (seen[token] - expected) / expected;
      }
    }
    if (rest_expected > 0) {
      ++cells;
      statistic += (rest_seen - rest_expected) * (rest_seen - rest_expected) / rest_expected;
    }
    ASSERT_GT(cells, 10);
    EXPECT_LT(statistic, cells - 1 + 5 * std::sqrt(2.0 * cells)) << which;
  }
}

TEST_P(SamplingTest, ScoresMatchTheReference) {
  for (const std::int64_t vocab : {1, 5, 256, 999}) {
    constexpr std::int64_t kRows = 12;
    const std::int64_t stride = Subject::Stride(vocab);
    const std::vector<float> random = RandomFloats(kRows * stride, 21, 0.0f, 3.0f);
    TestVector<float> logits(random.begin(), random.end());
    for (std::int64_t i = 0; i < kRows / 2 * stride; ++i) logits[i] = std::round(logits[i]);
    std::vector<std::int32_t> targets(kRows);
    for (std::int64_t r = 0; r < kRows; ++r) {
      const std::vector<float> row(&logits[r * stride], &logits[r * stride] + vocab);
      targets[r] = r % 3 == 0 ? reference::Order(row)[0] : static_cast<std::int32_t>((r * 37) % vocab);
    }
    std::vector<TokenScore> scores(kRows);
    ScoreArgs args = {.logits = logits.data(), .targets = targets, .top_logprobs = 7, .results = scores};
    Sampler& sampler = subject_.SamplerOf(vocab);
    ASSERT_TRUE(sampler.Score(subject_.stream(), args).ok());
    for (std::int64_t r = 0; r < kRows; ++r) {
      const std::vector<float> row(&logits[r * stride], &logits[r * stride] + vocab);
      const std::vector<int> order = reference::Order(row);
      const std::vector<double> want = reference::LogSoftmax<double>(row.data(), vocab);
      const auto place = std::find(order.begin(), order.end(), targets[r]) - order.begin();
      ASSERT_TRUE(scores[r].finite);
      ASSERT_NEAR(scores[r].logprob, want[targets[r]], kLogprobTolerance);
      ASSERT_EQ(scores[r].rank, place + 1);
      ASSERT_EQ(scores[r].is_greedy, place == 0);
      ASSERT_EQ(scores[r].top.count, std::min<std::int64_t>(7, vocab));
      for (std::int32_t n = 0; n < scores[r].top.count; ++n)
        ASSERT_EQ(scores[r].top.tokens[n].token, order[n]);
    }
    logits[vocab - 1] = kNan;
    args.top_logprobs = 0;
    ASSERT_TRUE(sampler.Score(subject_.stream(), args).ok());
    EXPECT_FALSE(scores[0].finite);
    EXPECT_TRUE(scores[1].finite);
  }
}

// Rows that no GPU holds on chip.
TEST_P(SamplingTest, ScoresTheWidestRows) {
  constexpr std::int64_t kVocab = 600'001, kStride = 600'004, kRows = 3;
  TestVector<float> logits(kRows * kStride, kNan);
  std::vector<std::int32_t> targets;
  for (std::int32_t r = 0; r < kRows; ++r) {
    for (std::int32_t i = 0; i < kVocab; ++i)
      logits[r * kStride + i] = static_cast<float>((i * 7919LL + r) % kVocab);
    targets.push_back(200'000 * (r + 1));
  }
  std::vector<TokenScore> scores(kRows);
  const auto sampler =
      Sampler::Create(subject_.device(), {.vocab = kVocab, .stride = kStride, .rows_max = kRows}).value();
  ASSERT_TRUE(sampler
                  ->Score(subject_.stream(),
                          {.logits = logits.data(), .targets = targets, .top_logprobs = 1, .results = scores})
                  .ok());
  for (std::int64_t r = 0; r < kRows; ++r) {
    const float* row = &logits[r * kStride];
    // The logits of a row are 0 to V - 1 in some order.
    ASSERT_TRUE(scores[r].finite);
    ASSERT_EQ(scores[r].rank, kVocab - static_cast<std::int64_t>(row[targets[r]]));
    ASSERT_EQ(row[scores[r].top.tokens[0].token], static_cast<float>(kVocab - 1));
  }
}

TEST_P(SamplingTest, RefusesWhatItCannotDraw) {
  TestVector<float> logits(8);
  std::vector<SamplingParams> params(1);
  std::vector<SamplingKey> keys(1);
  std::vector<SampledToken> results(1);
  const auto sampler = Sampler::Create(subject_.device(), {.vocab = 4, .stride = 4, .rows_max = 1}).value();
  const SampleArgs good = {.logits = logits.data(), .params = params, .keys = keys, .results = results};
  EXPECT_TRUE(sampler->Sample(subject_.stream(), good).ok());
  const auto refused = [&](auto change) {
    SampleArgs args = good;
    change(args);
    return sampler->Sample(subject_.stream(), args).code() == absl::StatusCode::kInvalidArgument;
  };
  const auto refused_params = [&](SamplingParams bad) {
    return refused([&](SampleArgs& a) { a.params = std::span(&bad, 1); });
  };
  EXPECT_TRUE(refused_params({.temperature = -0.1f}));
  EXPECT_TRUE(refused_params({.temperature = 100.1f}));
  EXPECT_TRUE(refused_params({.temperature = kNan}));
  EXPECT_TRUE(refused_params({.top_p = 0.0f}));
  EXPECT_TRUE(refused_params({.top_p = 1.1f}));
  EXPECT_TRUE(refused_params({.min_p = -0.1f}));
  EXPECT_TRUE(refused_params({.repetition_penalty = 0.0f}));
  EXPECT_TRUE(refused_params({.repetition_penalty = 10.5f}));
  EXPECT_TRUE(refused_params({.presence_penalty = 2.5f}));
  EXPECT_TRUE(refused_params({.frequency_penalty = kNan}));
  EXPECT_TRUE(refused_params({.top_k = -1}));
  EXPECT_TRUE(refused_params({.top_logprobs = kMaxTopLogprobs + 1}));
  EXPECT_TRUE(refused([](SampleArgs& a) { a.logits = nullptr; }));
  EXPECT_TRUE(refused([](SampleArgs& a) { a.logits += 1; }));
  EXPECT_TRUE(refused([](SampleArgs& a) { a.keys = {}; }));
  EXPECT_TRUE(refused([](SampleArgs& a) { a.results = {}; }));
  std::vector<SamplingParams> two_params(2);
  std::vector<SamplingKey> two_keys(2);
  std::vector<SampledToken> two_results(2);
  EXPECT_TRUE(
      refused([&](SampleArgs& a) { a.params = two_params, a.keys = two_keys, a.results = two_results; }));

  const std::vector<std::int64_t> one = {0, 1}, four = {0, 4}, descending = {1, 0}, wrong_size = {0};
  const std::vector<std::int32_t> all = {0, 1, 2, 3}, beyond = {4};
  const std::vector<LogitBias> bias_token = {{-1, 0.0f}}, bias_size = {{0, 101.0f}};
  const std::vector<TokenCount> count_token = {{4, 0}}, count_size = {{0, -1}};
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.suppressed = {all, four}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.suppressed = {beyond, one}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.suppressed = {beyond, four}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.suppressed = {all, descending}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.suppressed = {all, wrong_size}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.logit_bias = {bias_token, one}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.logit_bias = {bias_size, one}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.token_counts = {count_token, one}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.token_counts = {count_size, one}; }));
  const std::vector<std::int64_t> five = {0, 5};
  const std::vector<LogitBias> five_biases(5);
  const std::vector<TokenCount> five_counts(5);
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.logit_bias = {five_biases, five}; }));
  EXPECT_TRUE(refused([&](SampleArgs& a) { a.token_counts = {five_counts, five}; }));
}

TEST_P(SamplingTest, RefusesScoresItCannotGive) {
  TestVector<float> logits(4);
  const std::vector<std::int32_t> target = {3}, beyond = {4}, below = {-1}, two = {0, 1};
  std::vector<TokenScore> results(1), two_results(2);
  const auto sampler = Sampler::Create(subject_.device(), {.vocab = 4, .stride = 4, .rows_max = 1}).value();
  const auto code = [&](const ScoreArgs& args) { return sampler->Score(subject_.stream(), args).code(); };
  const auto refused = absl::StatusCode::kInvalidArgument;
  EXPECT_EQ(code({.logits = logits.data(), .targets = target, .results = results}), absl::StatusCode::kOk);
  EXPECT_EQ(code({.logits = logits.data(), .targets = beyond, .results = results}), refused);
  EXPECT_EQ(code({.logits = logits.data(), .targets = below, .results = results}), refused);
  EXPECT_EQ(code({.logits = logits.data(), .targets = two, .results = two_results}), refused);
  EXPECT_EQ(code({.logits = logits.data(), .targets = target, .results = two_results}), refused);
  EXPECT_EQ(code({.logits = logits.data(), .targets = target, .top_logprobs = 21, .results = results}),
            refused);
  EXPECT_EQ(code({.logits = nullptr, .targets = target, .results = results}), refused);
}

TEST_P(SamplingTest, RefusesShapesOutOfRange) {
  const auto refused = [&](const LogitsShape& shape) {
    return Sampler::Create(subject_.device(), shape).status().code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_FALSE(refused({.vocab = 4, .stride = 4, .rows_max = 0}));
  EXPECT_TRUE(refused({.vocab = 0, .stride = 4, .rows_max = 1}));
  EXPECT_TRUE(refused({.vocab = 5, .stride = 4, .rows_max = 1}));
  EXPECT_TRUE(refused({.vocab = 4, .stride = 5, .rows_max = 1}));
  EXPECT_TRUE(refused({.vocab = 4, .stride = 4, .rows_max = -1}));
  EXPECT_TRUE(refused({.vocab = (1 << 28) + 4, .stride = (1 << 28) + 4, .rows_max = 1}));
}

TEST_P(SamplingTest, TheLedgerHoldsItsMemory) {
  const std::uint64_t before = subject_.device().bytes_in_use();
  const auto sampler =
      Sampler::Create(subject_.device(), {.vocab = 1000, .stride = 1000, .rows_max = 8}).value();
  EXPECT_GT(sampler->bytes(), 0u);
  EXPECT_EQ(subject_.device().bytes_in_use() - before, sampler->bytes());
}

INSTANTIATE_TEST_SUITE_P(Targets, SamplingTest, ::testing::ValuesIn(TargetsToTest()), [](const auto& info) {
  return info.param.has_value() ? std::string(Name(*info.param)) : std::string("cuda");
});

TEST(PrefixSelectTest, KeepsWhatASortWouldKeep) {
  std::mt19937 random(3);
  for (int round = 0; round < 300; ++round) {
    const std::size_t size = 1 + random() % 60;
    std::vector<Candidate> all(size);
    for (std::size_t i = 0; i < size; ++i) {
      const float logit = round % 2 == 0
                              ? static_cast<float>(random() % 7) - 3.0f
                              : std::bit_cast<float>(static_cast<std::uint32_t>(random() & 0xbf7fffffu));
      all[i] = {OrderedKey(logit), static_cast<std::int32_t>(i * 3), static_cast<float>(random() % 8)};
    }
    std::vector<Candidate> sorted = all;
    std::stable_sort(sorted.begin(), sorted.end(),
                     [](const auto& a, const auto& b) { return a.key > b.key; });
    const auto expect_first = [&](std::span<Candidate> got, std::size_t count) {
      std::set<std::int32_t> want;
      for (std::size_t i = 0; i < count; ++i) want.insert(sorted[i].token);
      ASSERT_EQ(got.size(), count);
      EXPECT_TRUE(std::is_sorted(got.begin(), got.end(), [](auto& a, auto& b) { return a.token < b.token; }));
      for (const Candidate& candidate : got) EXPECT_TRUE(want.contains(candidate.token));
    };
    const std::size_t count = 1 + random() % (size + 3);
    std::vector<Candidate> list = all;
    expect_first(KeepCount(list, count), std::min(count, size));
    double total = 0;
    for (const Candidate& candidate : all) total += candidate.weight;
    const double mass = 1 + random() % static_cast<int>(total + 4);
    std::size_t needed = 0;
    for (double sum = 0; needed < size && sum < mass; ++needed) sum += sorted[needed].weight;
    list = all;
    expect_first(KeepMass(list, mass), needed);
  }
}

TEST(PrefixSelectTest, KeysOrderAsTheirFloatsDo) {
  const std::vector<float> ascending = {-kInfinity, -3e38f, -1.0f, -1e-40f,  0.0f,
                                        1e-40f,     1.0f,   3e38f, kInfinity};
  for (std::size_t i = 1; i < ascending.size(); ++i) {
    EXPECT_LT(OrderedKey(ascending[i - 1]), OrderedKey(ascending[i]));
  }
  EXPECT_EQ(OrderedKey(-0.0f), OrderedKey(0.0f));
}

}  // namespace
}  // namespace mambad::kernels
