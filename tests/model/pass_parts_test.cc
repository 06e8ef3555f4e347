// A prompt pass in parts: decode steps between them, and chunks that are given up on the way. (That neither
// changes a bit of anybody's row_independence_test knows too.)
#include <algorithm>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/slot_pool.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

constexpr int32_t kSlots = 6;
constexpr int32_t kGivenUp = 1;  // the chunk and its slot
constexpr unsigned char kPattern = 0xab;

struct Case {
  const char* name;
  const char* folder;
  Precision precision;
  StateDtype state_dtype = StateDtype::kF32;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PassPartsTest : public testing::TestWithParam<Case> {
 protected:
  // Three chunks in slots 0, 1 and 2, each with its last token's row asked for.
  Batch Pass() const {
    Batch batch;
    batch.chunk_offsets = {0, 5, 12, 15};
    const auto vocab = static_cast<uint32_t>(model_->info().vocab_size);
    for (uint32_t i = 0; i < 15; ++i) batch.prompt_tokens.push_back((3 + 7 * i) % vocab);
    for (int32_t chunk = 0; chunk < 3; ++chunk) {
      batch.chunk_slots.push_back(chunk);
      if (model_->state_layout().narrow())
        batch.chunk_wide.push_back({.slot = chunk, .begins = true, .ends = true});
      batch.logits.push_back({.source = LogitsSource::kPromptToken,
                              .index = batch.chunk_offsets[chunk + 1] - 1,
                              .target = 9,
                              .top_logprobs = 2});
    }
    return batch;
  }

  absl::Status Run(const Batch& batch, SlotPool& pool, uint32_t first, uint32_t last) {
    return model_->ForwardParts(batch, pool.view(), first, last, &results_);
  }

  const std::shared_ptr<MixerModel> model_ =
      LoadTestModel(TestDataPath(GetParam().folder), GetParam().precision,
                    {.decode_rows = 8, .prompt_tokens = 32}, 2, GetParam().state_dtype);
  std::vector<LogitsResult> results_;
};

bool SameScore(const LogitsResult& a, const LogitsResult& b) {
  return a.finite && b.finite && a.target_logprob == b.target_logprob && a.top == b.top;
}

TEST_P(PassPartsTest, AChunkThatWasGivenUpTouchesNothingAndDisturbsNobody) {
  SlotPool whole(model_->state_layout(), kSlots);
  std::vector<LogitsResult> wanted;
  ASSERT_TRUE(model_->Forward(Pass(), whole.view(), &wanted).ok());
  const uint32_t parts = model_->parts();
  ASSERT_GT(parts, 1u);
  for (uint32_t given_up_after = 1; given_up_after < parts; ++given_up_after) {
    SlotPool pool(model_->state_layout(), kSlots);
    Batch batch = Pass();
    for (uint32_t part = 0; part < parts; ++part) {
      if (part == given_up_after) {
        batch.chunk_slots[kGivenUp] = kernels::kNoSlot;
        if (!batch.chunk_wide.empty()) batch.chunk_wide[kGivenUp] = {.slot = kernels::kNoSlot};
        batch.logits[kGivenUp].target.reset();
        batch.logits[kGivenUp].top_logprobs = 0;
        pool.Fill(kGivenUp, kPattern);
      }
      ASSERT_TRUE(Run(batch, pool, part, part + 1).ok());
    }
    for (const int32_t chunk : {0, 2}) {
      EXPECT_TRUE(SameScore(results_[chunk], wanted[chunk])) << chunk << ", after part " << given_up_after;
      EXPECT_TRUE(std::ranges::equal(pool.slot(chunk), whole.slot(chunk)));
    }
    EXPECT_TRUE(
        std::ranges::all_of(pool.slot(kGivenUp), [](std::byte b) { return b == std::byte{kPattern}; }));
    for (int32_t slot = 3; slot < kSlots; ++slot)
      EXPECT_TRUE(std::ranges::equal(pool.slot(slot), whole.slot(slot)));
  }
}

TEST_P(PassPartsTest, OnlyALaterPartTakesAChunkWithoutASlot) {
  SlotPool pool(model_->state_layout(), kSlots);
  Batch batch = Pass();
  batch.chunk_slots[kGivenUp] = kernels::kNoSlot;
  EXPECT_TRUE(absl::IsInvalidArgument(Run(batch, pool, 0, 1)));
  EXPECT_TRUE(absl::IsInvalidArgument(model_->Forward(batch, pool.view(), &results_)));
}

TEST_P(PassPartsTest, ADecodeStepBetweenPartsIsTheStepAlone) {
  Batch step;
  step.decode_slots = {4};
  step.decode_tokens = {17};
  step.logits.push_back({.source = LogitsSource::kDecodeRow, .index = 0});
  SlotPool alone(model_->state_layout(), kSlots), pool(model_->state_layout(), kSlots);
  std::vector<LogitsResult> wanted, stepped;
  ASSERT_TRUE(model_->Forward(Pass(), alone.view(), &wanted).ok());
  for (uint32_t part = 0; part < model_->parts(); ++part) {
    ASSERT_TRUE(Run(Pass(), pool, part, part + 1).ok());
    if (part + 1 == model_->parts()) break;
    ASSERT_TRUE(model_->Forward(step, pool.view(), &stepped).ok());
    ASSERT_TRUE(model_->Forward(step, alone.view(), &stepped).ok());
  }
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(SameScore(results_[i], wanted[i]));
  EXPECT_TRUE(std::ranges::equal(pool.all(), alone.all()));
}

// prompt_logprobs past position 0: the first token is scored by the slot's hidden row as it was before the
// pass, however many parts that has.
TEST_P(PassPartsTest, ATaskOnAChunksSlotSeesItAsItWasBeforeThePass) {
  SlotPool whole(model_->state_layout(), kSlots), pool(model_->state_layout(), kSlots);
  std::vector<LogitsResult> wanted, ignored;
  ASSERT_TRUE(model_->Forward(Pass(), whole.view(), &ignored).ok());
  ASSERT_TRUE(model_->Forward(Pass(), pool.view(), &ignored).ok());
  Batch batch = Pass();
  for (uint32_t slot = 0; slot < 3; ++slot)
    batch.logits.push_back({.source = LogitsSource::kSlot, .index = slot, .target = 11, .top_logprobs = 2});
  ASSERT_TRUE(model_->Forward(batch, whole.view(), &wanted).ok());
  for (uint32_t part = 0; part < model_->parts(); ++part) ASSERT_TRUE(Run(batch, pool, part, part + 1).ok());
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_TRUE(SameScore(results_[i], wanted[i])) << i;
  EXPECT_TRUE(std::ranges::equal(pool.all(), whole.all()));
}

// A turn without a prompt, or a Score's one token: no chunk, tasks on slots alone; the loop cuts them too.
TEST_P(PassPartsTest, APassWithoutChunksMayBeCutToo) {
  SlotPool pool(model_->state_layout(), kSlots);
  std::vector<LogitsResult> ignored, wanted;
  ASSERT_TRUE(model_->Forward(Pass(), pool.view(), &ignored).ok());
  Batch batch;
  batch.logits.push_back({.source = LogitsSource::kSlot, .index = 1, .target = 9, .top_logprobs = 2});
  ASSERT_TRUE(model_->Forward(batch, pool.view(), &wanted).ok());
  const std::vector<std::byte> before(pool.all().begin(), pool.all().end());
  for (uint32_t part = 0; part < model_->parts(); ++part) ASSERT_TRUE(Run(batch, pool, part, part + 1).ok());
  ASSERT_EQ(results_.size(), 1u);
  EXPECT_TRUE(SameScore(results_[0], wanted[0]));
  EXPECT_TRUE(std::ranges::equal(pool.all(), before));
}
// All chunks given up but one task on a slot.
TEST_P(PassPartsTest, APassWhoseChunksAreAllGivenUpTouchesNothing) {
  SlotPool pool(model_->state_layout(), kSlots);
  Batch batch = Pass();
  ASSERT_TRUE(Run(batch, pool, 0, 1).ok());
  for (int c = 0; c < 3; ++c) {
    batch.chunk_slots[c] = kernels::kNoSlot;
    if (!batch.chunk_wide.empty()) batch.chunk_wide[c] = {.slot = kernels::kNoSlot};
    pool.Fill(c, kPattern);
  }
  const std::vector<std::byte> before(pool.all().begin(), pool.all().end());
  ASSERT_TRUE(Run(batch, pool, 1, model_->parts()).ok());
  EXPECT_TRUE(std::ranges::equal(pool.all(), before));
}

INSTANTIATE_TEST_SUITE_P(Models, PassPartsTest,
                         testing::Values(Case{"mamba_f32", "models/tiny-mamba", Precision::kF32},
                                         Case{"mamba_bf16", "models/tiny-mamba", Precision::kBf16},
                                         Case{"mamba_bf16_narrow", "models/tiny-mamba", Precision::kBf16,
                                              StateDtype::kBf16},
                                         Case{"falcon_bf16", "models/tiny-falcon-mamba", Precision::kBf16},
                                         Case{"odd_bf16", "golden/models/odd-widths", Precision::kBf16}),
                         [](const testing::TestParamInfo<Case>& info) { return info.param.name; });

}  // namespace
}  // namespace mambad
