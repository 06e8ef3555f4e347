// Decode steps and a prompt pass again and again from the same state: each time the same logits, draws and
// pool, bit for bit, whatever the order that blocks and kernels happened to run in. Builds with
// MAMBAD_RANDOM_DELAYS shake that order (tests/delays_gpu.sh).
#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <random>
#include <span>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/slots.h"
#include "kernels/device/stream.h"
#include "tests/model/cut_shape.h"

namespace mambad {
namespace {

using kernels::WeightPrecision;

constexpr int64_t kVocab = CutShape::kVocab;
constexpr std::array<uint32_t, 5> kPromptTokens = {1, 130, 17, 64, 5};
constexpr uint32_t kFirstTokens = 3;  // of each decoding session, before it decodes
constexpr int kStepsAhead = 2;

int Repeats() {
#ifdef MAMBAD_RANDOM_DELAYS
  return 1000;
#else
  if (std::getenv("MAMBAD_LONG_TESTS") != nullptr) return TestsRunOnGpu() ? 1000 : 20;
  return TestsRunOnGpu() ? 50 : 3;
#endif
}

struct Case {
  const char* name;
  CutShape shape;
  uint32_t rows;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

// What one repetition gave: logits and results of its calls in their order.
struct Outcome {
  std::vector<float> logits;
  std::vector<uint32_t> results;

  friend bool operator==(const Outcome& a, const Outcome& b) {
    return a.results == b.results && a.logits.size() == b.logits.size() &&
           std::memcmp(a.logits.data(), b.logits.data(), a.logits.size() * sizeof(float)) == 0;
  }
};

class RepeatTest : public testing::TestWithParam<Case> {
 protected:
  RepeatTest()
      : model_(MakeCutModel(GetParam().shape, {.decode_rows = GetParam().rows, .prompt_tokens = 2048})),
        stream_(kernels::Stream::Create(model_->device()).value()),
        layout_(model_->state_layout()),
        rows_(GetParam().rows),
        slots_(static_cast<int32_t>(rows_ + kPromptTokens.size() + 1)) {
    pool_ = Memory(slots_ * layout_.stride);
    start_ = Memory(slots_ * layout_.stride);
    wide_ = Memory(slots_ * layout_.wide_stride);
    seen_ = kernels::HostBuffer::Create(model_->device(), pool_.bytes()).value();
    for (uint32_t row = 0; row < rows_; ++row) {
      SamplingRow& sampling = sampling_.emplace_back();
      sampling.params.temperature = row % 3 == 0 ? 0.0f : 0.9f;
      sampling.params.top_k = row % 3 == 1 ? 7 : 0;
      sampling.params.top_p = row % 3 == 2 ? 0.8f : 1.0f;
      sampling.params.logprob = true;
      sampling.key.seed = row;
    }
  }

  kernels::DeviceBuffer Memory(size_t bytes) {
    return model_->device().Allocate(bytes, "test", kernels::Fill::kZero).value();
  }
  StateView view() const {
    return {pool_.as<std::byte>(), layout_.stride,      slots_,
            wide_.as<std::byte>(), layout_.wide_stride, layout_.narrow() ? slots_ : 0};
  }
  // Sessions lie in the pool the other way round, behind a slot that nobody has.
  int32_t SlotOf(size_t session) const { return slots_ - 1 - static_cast<int32_t>(session); }

  // Chunks that are whole prompts: of the sessions from `first` on, `lengths` tokens each.
  Batch Prompts(size_t first, std::span<const uint32_t> lengths) {
    Batch batch;
    batch.chunk_offsets.push_back(0);
    for (size_t i = 0; i < lengths.size(); ++i) {
      batch.chunk_slots.push_back(SlotOf(first + i));
      for (uint32_t n = 0; n < lengths[i]; ++n) batch.prompt_tokens.push_back(random_() % kVocab);
      batch.chunk_offsets.push_back(static_cast<uint32_t>(batch.prompt_tokens.size()));
      if (layout_.narrow()) batch.chunk_wide.push_back({static_cast<int32_t>(i), true, true});
      batch.logits.push_back({LogitsSource::kPromptToken, batch.chunk_offsets.back() - 1, &sampling_[0]});
    }
    return batch;
  }
  // Of the sessions from `first` on, which consume these.
  Batch Step(const std::vector<uint32_t>& tokens, size_t first = 0) {
    Batch batch;
    for (size_t i = 0; i < tokens.size(); ++i) {
      batch.decode_slots.push_back(SlotOf(first + i));
      batch.decode_tokens.push_back(tokens[i]);
      batch.logits.push_back({LogitsSource::kDecodeRow, static_cast<uint32_t>(i), &sampling_[first + i]});
    }
    return batch;
  }
  std::vector<uint32_t> AnyTokens() {
    std::vector<uint32_t> tokens(rows_);
    for (uint32_t& token : tokens) token = random_() % kVocab;
    return tokens;
  }
  static std::vector<uint32_t> TokensOf(const std::vector<LogitsResult>& results) {
    std::vector<uint32_t> tokens;
    for (const LogitsResult& result : results) tokens.push_back(result.token);
    return tokens;
  }

  // Every decoding session reads its first tokens.
  void Begin() {
    Outcome begun;
    Forward(Prompts(0, std::vector<uint32_t>(rows_, kFirstTokens)), &begun);
    ASSERT_TRUE(kernels::CopyOnDevice(*stream_, start_.data(), pool_.data(), pool_.bytes()).ok());
    ASSERT_TRUE(stream_->Synchronize().ok());
  }
  void BeginAgain() {
    ASSERT_TRUE(kernels::CopyOnDevice(*stream_, pool_.data(), start_.data(), pool_.bytes()).ok());
    ASSERT_TRUE(stream_->Synchronize().ok());
  }
  // Until the next call.
  std::span<const std::byte> ReadPool() {
    EXPECT_TRUE(kernels::CopyToHost(*stream_, seen_.as<std::byte>(), pool_.data(), pool_.bytes()).ok());
    EXPECT_TRUE(stream_->Synchronize().ok());
    return {seen_.as<std::byte>(), seen_.bytes()};
  }

  void Keep(const std::vector<LogitsResult>& results, Outcome* outcome) {
    for (const LogitsResult& result : results) {
      uint32_t logprob;
      std::memcpy(&logprob, &result.logprob, sizeof(logprob));
      outcome->results.insert(outcome->results.end(), {result.finite, result.token, logprob});
      ASSERT_TRUE(result.finite);
    }
  }
  void Forward(const Batch& batch, Outcome* outcome) {
    model_->ObserveLogits([&](size_t, std::span<const float> row) {
      outcome->logits.insert(outcome->logits.end(), row.begin(), row.end());
    });
    const absl::Status status = model_->Forward(batch, view(), &results_);
    model_->ObserveLogits(nullptr);
    ASSERT_TRUE(status.ok()) << status;
    Keep(results_, outcome);
  }
  // Both under way at once.
  void Launch(const Batch& one, const Batch& next) {
    ASSERT_TRUE(model_->Launch(one, view()).ok());
    ASSERT_TRUE(model_->Launch(next, view()).ok());
  }
  void Collect(Outcome* outcome) {
    ASSERT_TRUE(model_->Collect(&results_).ok());
    Keep(results_, outcome);
  }

  std::unique_ptr<MixerModel> model_;
  std::unique_ptr<kernels::Stream> stream_;
  const StateLayout layout_;
  const uint32_t rows_;
  const int32_t slots_;
  kernels::DeviceBuffer pool_, start_, wide_;
  kernels::HostBuffer seen_;  // the pool
  std::vector<SamplingRow> sampling_;
  std::vector<LogitsResult> results_;
  std::mt19937 random_{20261126};
};

TEST_P(RepeatTest, TheSameStateGivesTheSameBits) {
  Begin();
  const Batch first_step = Step(AnyTokens());
  const Batch next_step = Step(std::vector<uint32_t>(rows_, kDrawnToken));
  const Batch prompts = Prompts(rows_, kPromptTokens);
  Outcome expected;
  std::vector<std::byte> expected_pool;
  for (int repeat = 0; repeat < Repeats() && !HasFailure(); ++repeat) {
    SCOPED_TRACE(repeat);
    BeginAgain();
    Outcome outcome;
    Forward(first_step, &outcome);
    if (model_->launches_max() >= kStepsAhead) {
      Launch(next_step, next_step);
      for (int step = 0; step < kStepsAhead; ++step) Collect(&outcome);
    }
    Forward(prompts, &outcome);
    const std::span<const std::byte> pool = ReadPool();
    if (repeat == 0) {
      expected = outcome;
      expected_pool.assign(pool.begin(), pool.end());
    }
    EXPECT_EQ(outcome.results, expected.results);
    EXPECT_TRUE(outcome == expected) << "logits differ";
    EXPECT_EQ(std::memcmp(pool.data(), expected_pool.data(), pool.size()), 0) << "states differ";
  }
  std::printf("[ REPEATS  ] %d, %s\n", Repeats(), model_->info().numerics_id.c_str());
}

// The device consumes what it drew itself, and retires the first of several rows by a stop.
TEST_P(RepeatTest, TwoStepsUnderWayAreTwoStepsOneByOne) {
  if (model_->launches_max() < kStepsAhead) GTEST_SKIP() << "this path does not run ahead";
  Begin();
  const Batch first_step = Step(AnyTokens());
  const size_t stopped = rows_ > 1 ? 1 : 0;
  const auto behind = [&](const std::vector<LogitsResult>& results, size_t rows) {
    std::vector<uint32_t> tokens = TokensOf(results);
    tokens.erase(tokens.begin(), tokens.begin() + static_cast<ptrdiff_t>(rows));
    return tokens;
  };
  Outcome one_by_one, first;
  Forward(first_step, &first);
  const uint32_t stop = results_[0].token;
  Forward(Step(behind(results_, stopped), stopped), &one_by_one);
  Forward(Step(TokensOf(results_), stopped), &one_by_one);
  const std::span<const std::byte> pool = ReadPool();
  const std::vector<std::byte> expected_pool(pool.begin(), pool.end());

  BeginAgain();
  Forward(first_step, &first);
  Batch step = Step(std::vector<uint32_t>(rows_, kDrawnToken));
  if (stopped > 0) {
    step.stops = {stop};
    step.stop_offsets.assign(rows_ + 1, 1);
    step.stop_offsets[0] = 0;
  }
  Launch(step, Step(std::vector<uint32_t>(rows_ - stopped, kDrawnToken), stopped));
  ASSERT_TRUE(model_->Collect(&results_).ok());
  results_.erase(results_.begin(), results_.begin() + static_cast<ptrdiff_t>(stopped));
  Outcome ahead;
  Keep(results_, &ahead);
  Collect(&ahead);
  EXPECT_EQ(ahead.results, one_by_one.results);
  EXPECT_TRUE(std::ranges::equal(ReadPool(), expected_pool)) << "states differ";
  if (!layout_.narrow()) return;
  for (size_t row = 0; row < rows_; ++row) {
    kernels::RoundingKey key;
    std::memcpy(&key, seen_.as<std::byte>() + SlotOf(row) * layout_.stride, sizeof(key));
    EXPECT_EQ(key.position, kFirstTokens + 1 + (row < stopped ? 0 : kStepsAhead)) << "row " << row;
  }
}

TEST_P(RepeatTest, NoRowConsumesWhatTheLaunchBeforeDidNotDraw) {
  if (model_->launches_max() < kStepsAhead) GTEST_SKIP() << "this path does not run ahead";
  const Batch step = Step(std::vector<uint32_t>(rows_, kDrawnToken));
  EXPECT_DEATH((void)model_->Launch(step, view()), "broken promise");
}

// Before and after a pool has been seen.
TEST_P(RepeatTest, WorkspaceBytesAreThoseOfTheDevicesLedger) {
  const auto of_ledger = [this] {
    uint64_t bytes = kernels::Stream::kWorkspaceBytes;  // the model's; the test's stream has one too
    for (const kernels::MemoryUse& use : model_->device().Ledger()) {
      if (use.user == "workspace") bytes += use.bytes;
    }
    return bytes;
  };
  EXPECT_EQ(model_->info().workspace_bytes, of_ledger());
  Outcome outcome;
  Forward(Step(AnyTokens()), &outcome);
  EXPECT_EQ(model_->info().workspace_bytes, of_ledger());
}

const CutShape kNarrow = {"mamba-370m", 2, WeightPrecision::kBf16, kernels::DType::kBf16};
const Case kCases[] = {
    {"folded_1", {"mamba-130m", 2}, 1},     {"folded_7", {"mamba-130m", 2}, 7},
    {"folded_100", {"mamba-130m", 2}, 100}, {"wide_3", {"mamba-1.4b", 1}, 3},
    {"wide_20", {"mamba-1.4b", 1}, 20},     {"bf16_states_2", kNarrow, 2},
    {"bf16_states_40", kNarrow, 40},        {"general_2", {"mamba-130m", 1, WeightPrecision::kF32}, 2},
};
// A GPU's products with all of K in a block, which share one operand or the other, and out_proj's.
const Case kManyChannels[] = {{"whole_40", {"mamba-1.4b", 1}, 40},
                              {"whole_130", {"mamba-1.4b", 1}, 130},
                              {"stack_1", {"mamba-790m", 6}, 1},
                              {"stack_2", {"mamba-1.4b", 5}, 2},
                              {"row_stack", {"mamba-130m", 6}, 1}};

std::string NameOf(const testing::TestParamInfo<Case>& info) { return info.param.name; }
INSTANTIATE_TEST_SUITE_P(, RepeatTest, testing::ValuesIn(kCases), NameOf);
// On a CPU they would take minutes and show nothing that the others do not.
INSTANTIATE_TEST_SUITE_P(ManyChannels, RepeatTest,
                         testing::ValuesIn(TestsRunOnGpu() ? std::vector<Case>(std::begin(kManyChannels),
                                                                               std::end(kManyChannels))
                                                           : std::vector<Case>()),
                         NameOf);
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(RepeatTest);

}  // namespace
}  // namespace mambad
