#include "engine/schedule/candidate.h"

#include <gtest/gtest.h>

#include <numeric>

#include "engine/text/tokenizer.h"

namespace mambad {
namespace {

constexpr uint32_t kEos = 0;

class CandidateTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer =
        Tokenizer::Load(MAMBAD_SOURCE_DIR "/deploy/models/mamba-tales/tokenizer.json");
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
    request_.prompt = Encode("Once upon a time");
  }

  std::vector<uint32_t> Encode(const std::string& text) {
    return *tokenizer_->Encode(text, {.add_special_tokens = false});
  }
  Candidate NewCandidate(uint32_t index = 0) {
    return Candidate(request_, index, 5, tokenizer_.get(), {kEos}, tokenizer_->vocab_size());
  }
  static std::vector<int32_t> Suppressed(const Candidate& candidate) {
    const SamplingRow& row = candidate.sampling();
    const std::span<const int32_t> suppressed = row.SuppressedAt(row.key.token_index);
    return {suppressed.begin(), suppressed.end()};
  }
  static DeltaEvent Take(Candidate& candidate, uint32_t token) {
    LogitsResult result;
    result.token = token;
    return candidate.Take(result);
  }
  // The text that comes of these tokens until the candidate ends.
  std::string TextOf(Candidate& candidate, const std::vector<uint32_t>& tokens) {
    std::string text;
    for (const uint32_t token : tokens) {
      if (candidate.ended()) break;
      text += Take(candidate, token).text;
    }
    return text;
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
  GenerationRequest request_;
};

TEST_F(CandidateTest, EmitsTheTextOfItsTokens) {
  Candidate candidate = NewCandidate();
  const std::string text = " there was a king, who had a daughter.";
  EXPECT_EQ(TextOf(candidate, Encode(text)), text);
  EXPECT_FALSE(candidate.ended());
}

TEST_F(CandidateTest, NeverSplitsACodePoint) {
  Candidate candidate = NewCandidate();
  const std::vector<uint32_t> tokens = Encode("é€😀");
  ASSERT_GT(tokens.size(), 3u);
  std::string text;
  for (const uint32_t token : tokens) {
    const std::string piece = Take(candidate, token).text;
    EXPECT_TRUE(piece.empty() || (piece.front() & 0xc0) != 0x80);
    text += piece;
  }
  EXPECT_EQ(text, "é€😀");
}

TEST_F(CandidateTest, EndsAtEndOfSequenceWithoutText) {
  Candidate candidate = NewCandidate();
  EXPECT_EQ(TextOf(candidate, Encode(" a king")), " a king");
  EXPECT_EQ(Take(candidate, kEos).text, "");
  ASSERT_TRUE(candidate.ended());
  EXPECT_EQ(candidate.reason(), FinishReason::kEos);
  EXPECT_FALSE(candidate.consumes_last());
  EXPECT_EQ(candidate.output_tokens(), Encode(" a king").size() + 1);
}

TEST_F(CandidateTest, ConsumesAStopTokenOnlyOnRequest) {
  for (const bool consume : {false, true}) {
    request_.stop.consume_stop_token = consume;
    request_.stop.stop_token_ids = {Encode(" king")[0]};
    Candidate candidate = NewCandidate();
    Take(candidate, request_.stop.stop_token_ids[0]);
    ASSERT_TRUE(candidate.ended());
    EXPECT_EQ(candidate.reason(), FinishReason::kStopToken);
    EXPECT_EQ(candidate.consumes_last(), consume);
  }
}

TEST_F(CandidateTest, IgnoresTheEndOfSequenceOnRequest) {
  request_.stop.ignore_eos = true;
  Candidate candidate = NewCandidate();
  Take(candidate, kEos);
  EXPECT_FALSE(candidate.ended());
}

TEST_F(CandidateTest, EndsAtItsLengthAndConsumesTheLastToken) {
  request_.stop.max_output_tokens = 3;
  Candidate candidate = NewCandidate();
  const std::vector<uint32_t> tokens = Encode(" there was a king");
  TextOf(candidate, tokens);
  ASSERT_TRUE(candidate.ended());
  EXPECT_EQ(candidate.reason(), FinishReason::kLength);
  EXPECT_EQ(candidate.output_tokens(), 3u);
  EXPECT_EQ(candidate.last_token(), tokens[2]);
  EXPECT_TRUE(candidate.consumes_last());
}

TEST_F(CandidateTest, EndsAtAStopStringAndSendsNoPartOfIt) {
  const std::vector<uint32_t> tokens = Encode(" there was a king, who had");
  for (const bool include : {false, true}) {
    request_.stop.stop_sequences = {"zzz", "king, w"};
    request_.stop.include_stop_sequence = include;
    Candidate candidate = NewCandidate();
    EXPECT_EQ(TextOf(candidate, tokens), include ? " there was a king, w" : " there was a ");
    ASSERT_TRUE(candidate.ended());
    EXPECT_EQ(candidate.reason(), FinishReason::kStopSequence);
    EXPECT_EQ(candidate.matched_stop(), "king, w");
    EXPECT_TRUE(candidate.consumes_last());
  }
}

TEST_F(CandidateTest, LetsOutHeldTextWhenItEndsOtherwise) {
  request_.stop.stop_sequences = {"king of"};
  request_.stop.max_output_tokens = static_cast<uint32_t>(Encode(" a king").size());
  Candidate candidate = NewCandidate();
  EXPECT_EQ(TextOf(candidate, Encode(" a king")), " a king");
  EXPECT_EQ(candidate.reason(), FinishReason::kLength);
}

TEST_F(CandidateTest, FindsStopStringsAlsoWithoutSendingText) {
  request_.stop.stop_sequences = {"king"};
  request_.output.skip_text = true;
  Candidate candidate = NewCandidate();
  EXPECT_EQ(TextOf(candidate, Encode(" there was a king, who")), "");
  ASSERT_TRUE(candidate.ended());
  EXPECT_EQ(candidate.reason(), FinishReason::kStopSequence);
}

TEST_F(CandidateTest, NothingEndsItBeforeMinOutputTokens) {
  request_.stop.min_output_tokens = 6;
  request_.stop.stop_sequences = {"king"};
  request_.stop.stop_token_ids = {7};
  Candidate candidate = NewCandidate();
  for (const uint32_t token : {7u, kEos}) {
    EXPECT_EQ(Suppressed(candidate), (std::vector<int32_t>{kEos, 7}));
    Take(candidate, token);
  }
  TextOf(candidate, Encode(" king"));
  EXPECT_FALSE(candidate.ended());
  while (candidate.output_tokens() < 5) Take(candidate, 50);
  EXPECT_TRUE(Suppressed(candidate).empty());
  Take(candidate, 7);
  EXPECT_TRUE(candidate.ended());
}

TEST_F(CandidateTest, AStopStringEndsItWhenItIsCompleteAtMinOutputTokensOrLater) {
  const std::vector<uint32_t> tokens = Encode(" there was a king, who had");
  request_.stop.stop_sequences = {"king, w"};
  const auto complete = static_cast<uint32_t>(Encode(" there was a king, who").size());
  for (uint32_t least = 0; least <= complete + 1; ++least) {
    request_.stop.min_output_tokens = least;
    Candidate candidate = NewCandidate();
    const std::string text = TextOf(candidate, tokens);
    if (least <= complete) {
      ASSERT_TRUE(candidate.ended()) << least;
      EXPECT_EQ(candidate.reason(), FinishReason::kStopSequence);
      EXPECT_EQ(candidate.output_tokens(), complete);
      EXPECT_EQ(text, " there was a ");
    } else {
      EXPECT_FALSE(candidate.ended());
      EXPECT_EQ(text, " there was a king, who had");
    }
  }
}

TEST_F(CandidateTest, CountsTokensOfPromptAndOutputForPenalties) {
  request_.prompt = {11, 12, 11};
  Candidate plain = NewCandidate();
  EXPECT_TRUE(plain.sampling().token_counts.empty());
  request_.sampling.frequency_penalty = 1;
  Candidate candidate = NewCandidate();
  for (const uint32_t token : {12u, 13u, 12u}) Take(candidate, token);
  std::map<int32_t, int32_t> counts;
  for (const kernels::TokenCount& count : candidate.sampling().token_counts) {
    EXPECT_TRUE(counts.emplace(count.token, count.output_count).second);
  }
  EXPECT_EQ(counts, (std::map<int32_t, int32_t>{{11, 0}, {12, 2}, {13, 1}}));
}

TEST_F(CandidateTest, KeysEachDrawBySeedCandidateAndIndex) {
  Candidate candidate = NewCandidate(3);
  for (uint64_t index = 0; index < 3; ++index) {
    EXPECT_EQ(candidate.sampling().key.seed, 5u);
    EXPECT_EQ(candidate.sampling().key.candidate, 3u);
    EXPECT_EQ(candidate.sampling().key.token_index, index);
    Take(candidate, 20);
  }
}

TEST_F(CandidateTest, ReportsLogprobsOnlyWhenAsked) {
  LogitsResult result;
  result.token = 30;
  result.logprob = -1.5f;
  result.top = {{31, -0.5f}, {30, -1.5f}};
  Candidate silent = NewCandidate();
  EXPECT_TRUE(silent.Take(result).logprobs.empty());
  request_.output.logprobs = true;
  request_.output.top_logprobs = 2;
  Candidate candidate = NewCandidate();
  EXPECT_TRUE(candidate.sampling().params.logprob);
  EXPECT_EQ(candidate.sampling().params.top_logprobs, 2);
  const DeltaEvent delta = candidate.Take(result);
  ASSERT_EQ(delta.logprobs.size(), 1u);
  EXPECT_EQ(delta.logprobs[0].logprob, -1.5f);
  ASSERT_EQ(delta.logprobs[0].top.size(), 2u);
  EXPECT_EQ(delta.logprobs[0].top[0].token_id, 31u);
}

}  // namespace
}  // namespace mambad
