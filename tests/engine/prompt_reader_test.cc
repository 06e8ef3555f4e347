#include "engine/schedule/prompt_reader.h"

#include <gtest/gtest.h>

#include <cmath>

namespace mambad {
namespace {

constexpr int32_t kSlot = 3;

// The targets of the tasks that reading in chunks of `chunk` tokens asks for, in order, with where each
// comes from.
struct Asked {
  std::vector<uint32_t> targets;
  std::vector<uint32_t> consumed;
  int of_slot = 0;
  int without_prediction = 0;
};

Asked ReadInChunks(const GenerationRequest& request, uint64_t start_position, uint32_t chunk) {
  Asked asked;
  PromptReader reader(request, start_position);
  while (!reader.done()) {
    Batch batch;
    const auto tokens = static_cast<uint32_t>(std::min<uint64_t>(chunk, reader.remaining()));
    reader.AppendChunk(tokens, kSlot, &batch);
    EXPECT_EQ(batch.logits.size(), reader.tasks());
    EXPECT_EQ(batch.chunk_slots.size(), tokens > 0 ? 1u : 0u);
    for (const LogitsTask& task : batch.logits) {
      asked.targets.push_back(*task.target);
      if (task.source == LogitsSource::kSlot) {
        EXPECT_EQ(task.index, static_cast<uint32_t>(kSlot));
        ++asked.of_slot;
      } else {
        EXPECT_LT(task.index, tokens);
      }
    }
    asked.consumed.insert(asked.consumed.end(), batch.prompt_tokens.begin(), batch.prompt_tokens.end());
    std::vector<LogitsResult> results(reader.tasks());
    for (const TokenLogprob& score : reader.TakeScores(results)) {
      asked.without_prediction += std::isnan(score.logprob);
    }
    EXPECT_EQ(reader.AfterChunk().source, tokens > 0 ? LogitsSource::kPromptToken : LogitsSource::kSlot);
  }
  EXPECT_EQ(reader.tokens_read(), request.input_tokens());
  return asked;
}

TEST(PromptReaderTest, ConsumesThePromptWhateverTheChunks) {
  GenerationRequest request;
  request.prompt = {5, 6, 7, 8, 9};
  for (const uint32_t chunk : {1u, 2u, 5u, 100u}) {
    const Asked asked = ReadInChunks(request, 0, chunk);
    EXPECT_EQ(asked.consumed, request.prompt);
    EXPECT_TRUE(asked.targets.empty());
  }
}

TEST(PromptReaderTest, ScoresEveryPromptTokenFromTheOneBefore) {
  GenerationRequest request;
  request.prompt = {5, 6, 7, 8, 9};
  request.output.prompt_logprobs = true;
  for (const uint32_t chunk : {1u, 2u, 5u}) {
    const Asked first = ReadInChunks(request, 0, chunk);
    EXPECT_EQ(first.targets, (std::vector<uint32_t>{6, 7, 8, 9}));
    EXPECT_EQ(first.without_prediction, 1);
    EXPECT_EQ(first.of_slot, 0);
    const Asked later = ReadInChunks(request, 10, chunk);
    EXPECT_EQ(later.targets, request.prompt);
    EXPECT_EQ(later.without_prediction, 0);
    EXPECT_EQ(later.of_slot, 1);
  }
}

TEST(PromptReaderTest, ScoreLeavesTheLastTokenUnconsumed) {
  GenerationRequest request;
  request.method = Method::kScore;
  request.prompt = {5, 6};
  request.score_text = {7, 8, 9};
  for (const uint32_t chunk : {1u, 3u, 100u}) {
    const Asked asked = ReadInChunks(request, 0, chunk);
    EXPECT_EQ(asked.consumed, (std::vector<uint32_t>{5, 6, 7, 8}));
    EXPECT_EQ(asked.targets, request.score_text);
  }
}

TEST(PromptReaderTest, ScoringOneTokenConsumesNothing) {
  GenerationRequest request;
  request.method = Method::kScore;
  request.score_text = {7};
  const Asked first = ReadInChunks(request, 0, 8);
  EXPECT_TRUE(first.consumed.empty());
  EXPECT_EQ(first.without_prediction, 1);
  const Asked later = ReadInChunks(request, 4, 8);
  EXPECT_TRUE(later.consumed.empty());
  EXPECT_EQ(later.targets, request.score_text);
  EXPECT_EQ(later.of_slot, 1);
}

TEST(PromptReaderTest, AnEmptyPromptIsReadByLookingAtTheSlot) {
  const Asked asked = ReadInChunks({}, 4, 8);
  EXPECT_TRUE(asked.consumed.empty());
  EXPECT_TRUE(asked.targets.empty());
}

}  // namespace
}  // namespace mambad
