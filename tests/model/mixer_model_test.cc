// Forward: what it refuses, and what a batch may hold at once.
#include "engine/model/mixer_model.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

constexpr ForwardLimits kLimits = {.decode_rows = 4, .prompt_tokens = 8};
constexpr int32_t kSlots = 6;

class MixerModelTest : public testing::Test {
 protected:
  MixerModelTest()
      : model_(LoadTestModel(TestDataPath("models/tiny-mamba"), Precision::kF32, kLimits, /*threads=*/1)),
        pool_(model_->state_layout(), kSlots) {}

  absl::Status Forward(const Batch& batch) { return model_->Forward(batch, pool_.view(), &results_); }

  std::shared_ptr<MixerModel> model_;
  SlotPool pool_;
  std::vector<LogitsResult> results_;
};

TEST_F(MixerModelTest, RefusesABadBatchAndRunsNothing) {
  const Batch bad[] = {
      {.decode_slots = {0}, .decode_tokens = {512}},
      {.decode_slots = {0}, .decode_tokens = {}},
      {.decode_slots = {-1}, .decode_tokens = {1}},
      {.decode_slots = {kSlots}, .decode_tokens = {1}},
      {.decode_slots = {1, 1}, .decode_tokens = {1, 1}},
      {.decode_slots = {0, 1, 2, 3, 4}, .decode_tokens = {1, 1, 1, 1, 1}},
      {.decode_slots = {0},
       .decode_tokens = {1},
       .chunk_slots = {0},
       .chunk_offsets = {0, 1},
       .prompt_tokens = {1}},
      {.chunk_slots = {0}, .chunk_offsets = {0, 1}, .prompt_tokens = {1000000}},
      {.chunk_slots = {0}, .chunk_offsets = {0, 9}, .prompt_tokens = std::vector<uint32_t>(9)},
      {.chunk_slots = {0}, .chunk_offsets = {0, 1}, .prompt_tokens = {1, 2}},
      {.chunk_slots = {0}, .chunk_offsets = {1, 2}, .prompt_tokens = {1, 2}},
      {.chunk_slots = {0}, .chunk_offsets = {}, .prompt_tokens = {1}},
      {.chunk_slots = {0, 1}, .chunk_offsets = {0, 0, 1}, .prompt_tokens = {1}},
      {.chunk_slots = {0, 1}, .chunk_offsets = {0, 2, 1}, .prompt_tokens = {1}},
      {.prompt_tokens = {1}},
      {.decode_slots = {0}, .decode_tokens = {1}, .logits = {{LogitsSource::kDecodeRow, 1}}},
      {.logits = {{LogitsSource::kPromptToken, 0}}},
      {.logits = {{LogitsSource::kSlot, kSlots}}},
      {.logits = {{.source = LogitsSource::kSlot, .index = 0, .target = 512}}},
      {.logits = {{.source = LogitsSource::kSlot, .index = 0, .target = 1, .top_logprobs = 21}}},
      {.logits = std::vector<LogitsTask>(17, {LogitsSource::kSlot, 0})},
  };
  const std::vector<std::byte> before(pool_.all().begin(), pool_.all().end());
  for (const Batch& batch : bad) {
    EXPECT_EQ(Forward(batch).code(), absl::StatusCode::kInvalidArgument) << &batch - bad;
    EXPECT_TRUE(std::equal(before.begin(), before.end(), pool_.all().begin())) << &batch - bad;
  }
  EXPECT_TRUE(Forward({.decode_slots = {0}, .decode_tokens = {1}}).ok());
}

TEST_F(MixerModelTest, AnEmptyBatchIsNothing) {
  EXPECT_TRUE(Forward({}).ok());
  EXPECT_TRUE(results_.empty());
}

TEST_F(MixerModelTest, SlotLogitsAreThoseBeforeTheTick) {
  SamplingRow greedy;
  greedy.params.temperature = 0;
  greedy.params.logprob = true;
  ASSERT_TRUE(Forward({.chunk_slots = {2},
                       .chunk_offsets = {0, 3},
                       .prompt_tokens = {5, 6, 7},
                       .logits = {{LogitsSource::kPromptToken, 2, &greedy}}})
                  .ok());
  const LogitsResult after_prompt = results_[0];
  ASSERT_TRUE(Forward({.decode_slots = {2},
                       .decode_tokens = {9},
                       .logits = {{LogitsSource::kSlot, 2, &greedy}, {LogitsSource::kDecodeRow, 0, &greedy}}})
                  .ok());
  EXPECT_EQ(results_[0].token, after_prompt.token);
  EXPECT_EQ(results_[0].logprob, after_prompt.logprob);
  EXPECT_NE(results_[1].logprob, after_prompt.logprob);
}

TEST_F(MixerModelTest, ScoresAgreeWithTheLogits) {
  std::vector<float> logits;
  model_->ObserveLogits([&](size_t task, std::span<const float> row) {
    if (task == 0) logits.assign(row.begin(), row.end());
  });
  SamplingRow greedy;
  greedy.params.temperature = 0;
  greedy.params.logprob = true;
  Batch batch = {.decode_slots = {1}, .decode_tokens = {3}};
  batch.logits = {{.source = LogitsSource::kDecodeRow, .index = 0, .target = 17, .top_logprobs = 5},
                  {LogitsSource::kDecodeRow, 0, &greedy},
                  {.source = LogitsSource::kDecodeRow, .index = 0}};
  ASSERT_TRUE(Forward(batch).ok());
  double sum = 0;
  for (const float logit : logits) sum += std::exp(static_cast<double>(logit));
  const auto logprob = [&](size_t token) { return logits[token] - std::log(sum); };
  const size_t best = std::max_element(logits.begin(), logits.end()) - logits.begin();
  EXPECT_NEAR(results_[0].target_logprob, logprob(17), 1e-4);
  EXPECT_EQ(results_[0].target_is_greedy, best == 17);
  ASSERT_EQ(results_[0].top.size(), 5u);
  EXPECT_EQ(results_[0].top[0].first, best);
  EXPECT_EQ(results_[1].token, best);
  EXPECT_NEAR(results_[1].logprob, logprob(best), 1e-4);
  EXPECT_TRUE(results_[1].top.empty());
  EXPECT_TRUE(results_[2].finite);
}

TEST_F(MixerModelTest, APoisonedRowIsReportedAlone) {
  pool_.Fill(3, 0xff);
  Batch batch = {.decode_slots = {3, 0}, .decode_tokens = {1, 1}};
  batch.logits = {{LogitsSource::kDecodeRow, 0}, {LogitsSource::kDecodeRow, 1}};
  ASSERT_TRUE(Forward(batch).ok());
  EXPECT_FALSE(results_[0].finite);
  EXPECT_TRUE(results_[1].finite);
}

TEST_F(MixerModelTest, RefusesLimitsOutOfRange) {
  LoadOptions options;
  options.model = TestDataPath("models/tiny-mamba");
  for (const ForwardLimits limits : {ForwardLimits{0, 1}, ForwardLimits{1, 0}, ForwardLimits{1u << 20, 1}}) {
    options.limits = limits;
    EXPECT_EQ(LoadModel(options).status().code(), absl::StatusCode::kInvalidArgument);
  }
}

}  // namespace
}  // namespace mambad
