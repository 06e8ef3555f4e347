#include "engine/request.h"

#include <gtest/gtest.h>

#include <cmath>
#include <functional>
#include <limits>

#include "engine/error.h"

namespace mambad {
namespace {

constexpr RequestLimits kLimits = {
    .vocab_size = 100, .state_slots = 64, .prompt_tokens_max = 50, .has_tokenizer = true};

GenerationRequest Good() {
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  return request;
}

std::string FieldAfter(const std::function<void(GenerationRequest&)>& change,
                       const RequestLimits& limits = kLimits) {
  GenerationRequest request = Good();
  change(request);
  const absl::Status status = Validate(request, limits);
  if (status.ok()) return "";
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_EQ(DetailOf(status).reason, reason::kInvalidParameter);
  EXPECT_EQ(status.message().find(DetailOf(status).field), 0u) << status;
  return DetailOf(status).field;
}

TEST(RequestTest, TakesTheEndsOfEveryRange) {
  EXPECT_EQ(FieldAfter([](auto&) {}), "");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.sampling = {.temperature = 0, .top_k = 0, .top_p = 1, .min_p = 0, .repetition_penalty = 10};
              r.sampling.presence_penalty = r.sampling.frequency_penalty = -2;
              r.sampling.logit_bias = {{0, -100}, {99, 100}};
            }),
            "");
  EXPECT_EQ(
      FieldAfter([](auto& r) {
        r.sampling = {
            .temperature = 100, .top_k = INT32_MAX, .top_p = 1e-9f, .min_p = 1, .repetition_penalty = 1e-9f};
        r.sampling.presence_penalty = r.sampling.frequency_penalty = 2;
      }),
      "");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.stop.max_output_tokens = r.stop.min_output_tokens = 1u << 30;
              r.stop.stop_sequences.assign(16, std::string(256, 'x'));
              r.stop.stop_token_ids.assign(64, 99);
            }),
            "");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.output = {.logprobs = true, .top_logprobs = 20};
              r.candidate_count = 64;
              r.request_id = std::string(256, 'r');
              r.prompt.assign(50, 99);
              r.priority = INT32_MIN;
            }),
            "");
}

TEST(RequestTest, NamesTheFieldThatBreaksItsRange) {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const float infinity = std::numeric_limits<float>::infinity();
  for (const float value : {-0.001f, 100.1f, nan, infinity, -infinity}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.temperature = value; }), "sampling.temperature");
  }
  for (const float value : {0.0f, -1.0f, 1.001f, nan}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.top_p = value; }), "sampling.top_p");
  }
  for (const float value : {-0.1f, 1.1f, nan}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.min_p = value; }), "sampling.min_p");
  }
  for (const float value : {0.0f, -1.0f, 10.1f, nan, infinity}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.repetition_penalty = value; }),
              "sampling.repetition_penalty");
  }
  for (const float value : {-2.1f, 2.1f, nan}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.presence_penalty = value; }), "sampling.presence_penalty");
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.frequency_penalty = value; }),
              "sampling.frequency_penalty");
  }
  EXPECT_EQ(FieldAfter([](auto& r) { r.sampling.top_k = 1u << 31; }), "sampling.top_k");
  for (const float value : {-100.1f, 100.1f, nan}) {
    EXPECT_EQ(FieldAfter([&](auto& r) { r.sampling.logit_bias = {{1, value}}; }), "sampling.logit_bias");
  }
  EXPECT_EQ(FieldAfter([](auto& r) { r.sampling.logit_bias = {{100, 1}}; }), "sampling.logit_bias");
  EXPECT_EQ(FieldAfter([](auto& r) { r.sampling.logit_bias = {{1, 1}, {1, 2}}; }), "sampling.logit_bias");
  EXPECT_EQ(FieldAfter([](auto& r) { r.sampling.logit_bias.assign(1025, {1, 1}); }), "sampling.logit_bias");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.max_output_tokens = 0; }), "stop.max_output_tokens");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.max_output_tokens = (1u << 30) + 1; }), "stop.max_output_tokens");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.min_output_tokens = 1025; }), "stop.min_output_tokens");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_sequences.assign(17, "x"); }), "stop.stop_sequences");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_sequences = {""}; }), "stop.stop_sequences");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_sequences = {std::string(257, 'x')}; }),
            "stop.stop_sequences");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_sequences = {"\xff"}; }), "stop.stop_sequences");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_token_ids.assign(65, 1); }), "stop.stop_token_ids");
  EXPECT_EQ(FieldAfter([](auto& r) { r.stop.stop_token_ids = {100}; }), "stop.stop_token_ids");
  EXPECT_EQ(FieldAfter([](auto& r) { r.output = {.logprobs = true, .top_logprobs = 21}; }),
            "output.top_logprobs");
  EXPECT_EQ(FieldAfter([](auto& r) { r.output.top_logprobs = 1; }), "output.top_logprobs");
  EXPECT_EQ(FieldAfter([](auto& r) { r.candidate_count = 0; }), "candidate_count");
  EXPECT_EQ(FieldAfter([](auto& r) { r.candidate_count = 65; }), "candidate_count");
  EXPECT_EQ(FieldAfter([](auto& r) { r.candidate_count = 129; }), "candidate_count");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.candidate_count = 2;
              r.session_id = "s";
            }),
            "candidate_count");
  EXPECT_EQ(FieldAfter([](auto& r) { r.request_id = std::string(257, 'r'); }), "request_id");
  EXPECT_EQ(FieldAfter([](auto& r) { r.max_queue_time = -absl::Seconds(1); }), "max_queue_time");
  EXPECT_EQ(FieldAfter([](auto& r) { r.expect_position = 3; }), "expect_position");
}

TEST(RequestTest, SaysWhichLimitOfTheServerBoundsTheCandidates) {
  const auto message = [](const RequestLimits& limits) {
    GenerationRequest request;
    request.prompt = {1};
    request.candidate_count = 7;
    return std::string(Validate(request, limits).message());
  };
  RequestLimits limits = {
      .vocab_size = 100, .state_slots = 8, .prompt_tokens_max = 50, .has_tokenizer = true, .decode_rows = 7};
  EXPECT_EQ(message(limits), "");
  limits.decode_rows = 6;
  EXPECT_EQ(message(limits), "candidate_count must be at most the decode rows of this server");
  limits.state_slots = 6;
  EXPECT_EQ(message(limits), "candidate_count must be at most the state slots of this server");
}

TEST(RequestTest, ChecksTheInputOfEachMethod) {
  EXPECT_EQ(FieldAfter([](auto& r) { r.prompt = {}; }), "prompt");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.prompt = {};
              r.session_id = "s";
            }),
            "");
  EXPECT_EQ(FieldAfter([](auto& r) { r.prompt = {100}; }), "prompt");
  EXPECT_EQ(FieldAfter([](auto& r) { r.prompt.assign(51, 1); }), "prompt");
  EXPECT_EQ(FieldAfter([](auto& r) { r.score_text = {1}; }), "text");
  EXPECT_EQ(FieldAfter([](auto& r) { r.method = Method::kScore; }), "text");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.method = Method::kScore;
              r.prompt = {};
              r.score_text.assign(50, 1);
            }),
            "");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.method = Method::kScore;
              r.score_text.assign(48, 1);
            }),
            "text");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.method = Method::kScore;
              r.prompt = {100};
              r.score_text = {1};
            }),
            "context");
  EXPECT_EQ(FieldAfter([](auto& r) { r.method = Method::kAppendInput; }), "name");
  EXPECT_EQ(FieldAfter([](auto& r) {
              r.method = Method::kAppendInput;
              r.session_id = "s";
              r.prompt = {};
            }),
            "prompt");
}

TEST(RequestTest, StopStringsNeedATokenizer) {
  GenerationRequest request = Good();
  request.stop.stop_sequences = {"x"};
  RequestLimits limits = kLimits;
  limits.has_tokenizer = false;
  const absl::Status status = Validate(request, limits);
  EXPECT_TRUE(absl::IsFailedPrecondition(status));
  EXPECT_EQ(DetailOf(status).reason, reason::kNoTokenizer);
}

TEST(ErrorTest, KeepsItsDetail) {
  const absl::Status status = MakeError(absl::StatusCode::kAborted, "somewhere else",
                                        {.reason = reason::kPositionMismatch,
                                         .metadata = {{"position", "17"}},
                                         .retry_after = absl::Milliseconds(1500)});
  const ErrorDetail detail = DetailOf(status);
  EXPECT_EQ(status.message(), "somewhere else");
  EXPECT_EQ(detail.reason, reason::kPositionMismatch);
  EXPECT_EQ(detail.metadata.at("position"), "17");
  EXPECT_EQ(detail.retry_after, absl::Milliseconds(1500));
  EXPECT_EQ(DetailOf(absl::InternalError("plain")).reason, "");
}

}  // namespace
}  // namespace mambad
