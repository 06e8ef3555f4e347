#include "client/ctl/answer.h"

#include "gtest/gtest.h"

namespace mambad::ctl {
namespace {

const absl::Time kStart = absl::FromUnixSeconds(1000);

absl::Time At(int ms) { return kStart + absl::Milliseconds(ms); }

v1::StreamGenerateResponse Delta(uint32_t candidate, const char* text) {
  v1::StreamGenerateResponse event;
  event.mutable_delta()->set_candidate_index(candidate);
  event.mutable_delta()->set_text(text);
  return event;
}

v1::StreamGenerateResponse Finished(uint32_t candidate, uint64_t tokens) {
  v1::StreamGenerateResponse event;
  event.mutable_finished()->set_candidate_index(candidate);
  event.mutable_finished()->set_finish_reason(v1::STOP_SEQUENCE);
  event.mutable_finished()->set_matched_stop("!");
  event.mutable_finished()->mutable_usage()->set_input_tokens(3);
  event.mutable_finished()->mutable_usage()->set_output_tokens(tokens);
  return event;
}

TEST(AnswerTest, MeasuresFromTheStartAndFromTheFirstToken) {
  Answer answer(kStart);
  EXPECT_FALSE(answer.time_to_first_token().has_value());
  answer.Add(Delta(0, "a"), At(50));
  answer.Add(Delta(0, "b"), At(60));
  answer.Add(Finished(0, 11), At(150));
  EXPECT_EQ(answer.time_to_first_token(), absl::Milliseconds(50));
  EXPECT_DOUBLE_EQ(*answer.tokens_per_second(), 100.0);  // ten tokens after the first, in 100 ms
  EXPECT_EQ(answer.candidates()[0].text(), "ab");
}

TEST(AnswerTest, AddsUpCandidatesThatComeMixed) {
  Answer answer(kStart);
  answer.Add(Delta(1, "x"), At(10));
  answer.Add(Delta(0, "a"), At(10));
  answer.Add(Delta(1, "y"), At(20));
  answer.Add(Finished(1, 2), At(30));
  answer.Add(Finished(0, 1), At(30));
  EXPECT_EQ(answer.candidates()[0].text(), "a");
  EXPECT_EQ(answer.candidates()[1].text(), "xy");
  EXPECT_EQ(answer.usage()->output_tokens(), 3U);
  EXPECT_EQ(answer.usage()->input_tokens(), 3U) << "the prompt was read once";
  EXPECT_EQ(answer.CandidateJson(1)["usage"]["output_tokens"], 2);
  EXPECT_EQ(answer.CandidateJson(1)["matched_stop"], "!");
}

TEST(AnswerTest, AnAnswerOfOneTokenHasNoRate) {
  Answer answer(kStart);
  answer.Add(Delta(0, "a"), At(10));
  answer.Add(Finished(0, 1), At(10));
  EXPECT_FALSE(answer.tokens_per_second().has_value());
  EXPECT_TRUE(answer.CandidateJson(0)["timing"]["tokens_per_s"].is_null());
}

}  // namespace
}  // namespace mambad::ctl
