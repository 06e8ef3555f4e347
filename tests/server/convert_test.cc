// Every range of mambad.v1: a value outside it is INVALID_ARGUMENT naming the field.
#include "server/convert.h"

#include <functional>
#include <limits>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "gtest/gtest.h"
#include "tests/support/fake_engine.h"

namespace mambad {
namespace {

constexpr uint32_t kVocab = 4096;
constexpr uint32_t kSlots = 200;
constexpr uint64_t kPromptMax = 1000;

std::shared_ptr<Serving> MakeServing(bool with_tokenizer) {
  auto serving = std::make_shared<Serving>();
  serving->model_id = "test-model";
  auto engine = std::make_unique<testing::FakeEngine>(
      RequestLimits{kVocab, kSlots, kPromptMax, /*has_tokenizer=*/with_tokenizer});
  if (with_tokenizer) {
    auto tokenizer = Tokenizer::Load("deploy/models/mamba-tales/tokenizer.json");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    engine->set_tokenizer(*std::move(tokenizer));
  }
  serving->engine = std::move(engine);
  return serving;
}

v1::GenerateRequest ValidRequest() {
  v1::GenerateRequest request;
  request.mutable_prompt()->mutable_token_ids()->add_ids(1);
  return request;
}

absl::Status Check(const v1::GenerateRequest& request, const Serving& serving) {
  const auto pending = FromProto(request, Method::kGenerate, serving);
  return pending.ok() ? ValidatePending(*pending, serving.engine->limits()) : pending.status();
}

struct Case {
  std::string field;
  std::function<void(v1::GenerateRequest*)> spoil;
};

const float kNaN = std::numeric_limits<float>::quiet_NaN();
const float kInf = std::numeric_limits<float>::infinity();

// Both sides of every range, and what is no number.
std::vector<Case> Cases() {
  std::vector<Case> cases;
  const auto add = [&](const std::string& field, std::function<void(v1::GenerateRequest*)> spoil) {
    cases.push_back({field, std::move(spoil)});
  };
  for (const float bad : {-0.001f, 100.01f, kNaN, kInf}) {
    add("sampling.temperature", [=](auto* r) { r->mutable_sampling()->set_temperature(bad); });
  }
  for (const float bad : {0.0f, -0.5f, 1.001f, kNaN}) {
    add("sampling.top_p", [=](auto* r) { r->mutable_sampling()->set_top_p(bad); });
  }
  for (const float bad : {-0.001f, 1.001f, kNaN}) {
    add("sampling.min_p", [=](auto* r) { r->mutable_sampling()->set_min_p(bad); });
  }
  for (const float bad : {0.0f, -1.0f, 10.01f, kNaN}) {
    add("sampling.repetition_penalty", [=](auto* r) { r->mutable_sampling()->set_repetition_penalty(bad); });
  }
  for (const float bad : {-2.01f, 2.01f, kNaN, -kInf}) {
    add("sampling.presence_penalty", [=](auto* r) { r->mutable_sampling()->set_presence_penalty(bad); });
    add("sampling.frequency_penalty", [=](auto* r) { r->mutable_sampling()->set_frequency_penalty(bad); });
  }
  for (const float bad : {-100.5f, 100.5f, kNaN}) {
    add("sampling.logit_bias", [=](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[5] = bad; });
  }
  for (const int32_t bad : {-1, static_cast<int32_t>(kVocab), std::numeric_limits<int32_t>::min()}) {
    add("sampling.logit_bias", [=](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[bad] = 1; });
  }
  add("sampling.logit_bias", [](auto* r) {
    for (int i = 0; i < 1025; ++i) (*r->mutable_sampling()->mutable_logit_bias())[i] = 1;
  });
  for (const uint32_t bad : {0u, (1u << 30) + 1, UINT32_MAX}) {
    add("stop.max_output_tokens", [=](auto* r) { r->mutable_stop()->set_max_output_tokens(bad); });
  }
  add("stop.min_output_tokens", [](auto* r) {
    r->mutable_stop()->set_max_output_tokens(4);
    r->mutable_stop()->set_min_output_tokens(5);
  });
  add("stop.stop_sequences", [](auto* r) {
    for (int i = 0; i < 17; ++i) r->mutable_stop()->add_stop_sequences("x");
  });
  add("stop.stop_sequences", [](auto* r) { r->mutable_stop()->add_stop_sequences(""); });
  add("stop.stop_sequences", [](auto* r) { r->mutable_stop()->add_stop_sequences(std::string(257, 'x')); });
  add("stop.stop_token_ids", [](auto* r) {
    for (int i = 0; i < 65; ++i) r->mutable_stop()->add_stop_token_ids(1);
  });
  add("stop.stop_token_ids", [](auto* r) { r->mutable_stop()->add_stop_token_ids(kVocab); });
  add("output.top_logprobs", [](auto* r) {
    r->mutable_output()->set_logprobs(true);
    r->mutable_output()->set_top_logprobs(21);
  });
  add("output.top_logprobs", [](auto* r) { r->mutable_output()->set_top_logprobs(1); });
  for (const uint32_t bad : {129u, UINT32_MAX}) {
    add("candidate_count", [=](auto* r) { r->set_candidate_count(bad); });
  }
  add("candidate_count", [](auto* r) {
    r->set_candidate_count(2);
    r->set_session("sessions/a");
  });
  add("request_id", [](auto* r) { r->set_request_id(std::string(257, 'x')); });
  add("max_queue_time", [](auto* r) { r->mutable_max_queue_time()->set_seconds(-1); });
  add("max_queue_time", [](auto* r) { r->mutable_max_queue_time()->set_nanos(1000000000); });
  add("max_queue_time", [](auto* r) { r->mutable_max_queue_time()->set_seconds(INT64_MAX); });
  add("max_queue_time", [](auto* r) {
    r->mutable_max_queue_time()->set_seconds(1);
    r->mutable_max_queue_time()->set_nanos(-1);
  });
  add("expect_position", [](auto* r) { r->set_expect_position(0); });
  add("prompt", [](auto* r) { r->clear_prompt(); });
  add("prompt", [](auto* r) { r->mutable_prompt()->set_text(""); });
  add("prompt", [](auto* r) { r->mutable_prompt()->mutable_token_ids()->add_ids(kVocab); });
  add("prompt", [](auto* r) {
    for (uint64_t i = 0; i < kPromptMax; ++i) r->mutable_prompt()->mutable_token_ids()->add_ids(1);
  });
  add("model", [](auto* r) { r->set_model("test-model"); });
  add("model", [](auto* r) { r->set_model("models/"); });
  add("session", [](auto* r) { r->set_session("a"); });
  add("session", [](auto* r) { r->set_session("sessions/"); });
  return cases;
}

TEST(ConvertTest, NamesTheFieldThatIsOutOfItsRange) {
  const auto serving = MakeServing(true);
  ASSERT_TRUE(Check(ValidRequest(), *serving).ok()) << Check(ValidRequest(), *serving);
  for (const Case& c : Cases()) {
    v1::GenerateRequest request = ValidRequest();
    c.spoil(&request);
    const absl::Status status = Check(request, *serving);
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << c.field << ": " << status;
    EXPECT_EQ(DetailOf(status).field, c.field) << request.ShortDebugString().substr(0, 200);
    EXPECT_EQ(DetailOf(status).reason, reason::kInvalidParameter);
  }
}

TEST(ConvertTest, TakesTheEndsOfEveryRange) {
  const auto serving = MakeServing(true);
  const std::function<void(v1::GenerateRequest*)> edges[] = {
      [](auto* r) { r->mutable_sampling()->set_temperature(0); },
      [](auto* r) { r->mutable_sampling()->set_temperature(100); },
      [](auto* r) { r->mutable_sampling()->set_top_p(1); },
      [](auto* r) { r->mutable_sampling()->set_top_p(1e-6f); },
      [](auto* r) { r->mutable_sampling()->set_min_p(1); },
      [](auto* r) { r->mutable_sampling()->set_repetition_penalty(10); },
      [](auto* r) { r->mutable_sampling()->set_presence_penalty(-2); },
      [](auto* r) { r->mutable_sampling()->set_frequency_penalty(2); },
      [](auto* r) { r->mutable_sampling()->set_seed(UINT64_MAX); },
      [](auto* r) { (*r->mutable_sampling()->mutable_logit_bias())[kVocab - 1] = -100; },
      [](auto* r) { r->mutable_stop()->set_max_output_tokens(1u << 30); },
      [](auto* r) { r->mutable_stop()->add_stop_sequences(std::string(256, 'x')); },
      [](auto* r) { r->set_candidate_count(128); },
      [](auto* r) { r->set_request_id(std::string(256, 'x')); },
      [](auto* r) { r->mutable_max_queue_time()->set_seconds(0); },
      [](auto* r) { r->set_model("models/test-model"); },
      [](auto* r) { r->set_session("sessions/a"); },
  };
  for (const auto& edge : edges) {
    v1::GenerateRequest request = ValidRequest();
    edge(&request);
    EXPECT_TRUE(Check(request, *serving).ok())
        << Check(request, *serving) << request.ShortDebugString().substr(0, 200);
  }
}

TEST(ConvertTest, NeverRepeatsTheValue) {
  const auto serving = MakeServing(true);
  v1::GenerateRequest request = ValidRequest();
  request.mutable_sampling()->set_temperature(31337);
  EXPECT_EQ(Check(request, *serving).message().find("31337"), std::string::npos);
  request = ValidRequest();
  request.set_model("models/hunter2");
  const absl::Status status = Check(request, *serving);
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_EQ(DetailOf(status).reason, reason::kModelNotFound);
  EXPECT_EQ(status.message().find("hunter2"), std::string::npos);
}

TEST(ConvertTest, TakesDefaultsFromTheModelThenFromTheTable) {
  const auto serving = MakeServing(false);
  auto pending = FromProto(ValidRequest(), Method::kGenerate, *serving);
  ASSERT_TRUE(pending.ok());
  EXPECT_EQ(pending->request.sampling.temperature, 1.0f);
  EXPECT_EQ(pending->request.stop.max_output_tokens, 1024u);
  EXPECT_EQ(pending->request.candidate_count, 1u);

  serving->defaults.temperature = 0.25f;
  serving->defaults.top_k = 7;
  serving->defaults.max_output_tokens = 9;
  pending = FromProto(ValidRequest(), Method::kGenerate, *serving);
  ASSERT_TRUE(pending.ok());
  EXPECT_EQ(pending->request.sampling.temperature, 0.25f);
  EXPECT_EQ(pending->request.sampling.top_k, 7u);
  EXPECT_EQ(pending->request.stop.max_output_tokens, 9u);

  v1::GenerateRequest own = ValidRequest();
  own.mutable_sampling()->set_temperature(0);
  own.mutable_sampling()->set_top_k(0);
  own.mutable_stop()->set_max_output_tokens(3);
  pending = FromProto(own, Method::kGenerate, *serving);
  ASSERT_TRUE(pending.ok());
  EXPECT_EQ(pending->request.sampling.temperature, 0.0f);
  EXPECT_EQ(pending->request.sampling.top_k, 0u);
  EXPECT_EQ(pending->request.stop.max_output_tokens, 3u);
}

TEST(ConvertTest, TextNeedsATokenizer) {
  const auto serving = MakeServing(false);
  v1::GenerateRequest request;
  request.mutable_prompt()->set_text("hello");
  const absl::Status status = FromProto(request, Method::kGenerate, *serving).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kFailedPrecondition);
  EXPECT_EQ(DetailOf(status).reason, reason::kNoTokenizer);
}

TEST(ConvertTest, NamesTheFieldsOfTheOtherRequests) {
  const auto serving = MakeServing(true);
  v1::ScoreRequest score;
  score.mutable_text()->mutable_token_ids()->add_ids(1);
  const auto check = [&](const v1::ScoreRequest& request) {
    const auto pending = FromProto(request, *serving);
    return DetailOf(pending.ok() ? ValidatePending(*pending, serving->engine->limits()) : pending.status())
        .field;
  };
  EXPECT_EQ(check(score), "");
  v1::ScoreRequest bad = score;
  bad.clear_text();
  EXPECT_EQ(check(bad), "text");
  bad = score;
  bad.mutable_context()->mutable_token_ids()->add_ids(kVocab);
  EXPECT_EQ(check(bad), "context");
  bad = score;
  bad.set_session("x");
  EXPECT_EQ(check(bad), "session");
  bad = score;
  bad.set_model("x");
  EXPECT_EQ(check(bad), "model");

  v1::AppendInputRequest append;
  EXPECT_EQ(DetailOf(FromProto(append, *serving).status()).field, "name");
  append.set_name("sessions/a");
  EXPECT_EQ(DetailOf(ValidatePending(*FromProto(append, *serving), serving->engine->limits())).field,
            "prompt");

  v1::ListSessionsRequest list;
  list.set_page_size(-1);
  EXPECT_EQ(DetailOf(FromProto(list).status()).field, "page_size");
  EXPECT_EQ(DetailOf(FromProto(v1::DeleteSessionRequest()).status()).field, "name");
  EXPECT_EQ(DetailOf(FromProto(v1::ForkSessionRequest()).status()).field, "name");
  v1::CreateSessionRequest create;
  create.mutable_session()->mutable_ttl()->set_nanos(-2000000000);
  EXPECT_EQ(DetailOf(FromProto(create, *serving).status()).field, "session.ttl");
}

TEST(ConvertTest, ShowsHalfACharacterAsAReplacement) {
  const auto serving = MakeServing(true);
  // The byte 0xE2 alone, as the tokenizer spells it.
  const auto id = serving->tokenizer()->TokenId("\xc3\xa2");
  ASSERT_TRUE(id.ok()) << id.status();
  DeltaEvent event;
  event.token_ids = {*id};
  event.logprobs = {{.token_id = *id, .logprob = -1}};
  v1::Delta delta;
  AppendToProto(event, {.tokenizer = serving->tokenizer(), .token_ids = true}, &delta);
  EXPECT_EQ(delta.logprobs(0).text(), "\xef\xbf\xbd");
  EXPECT_EQ(delta.token_ids_size(), 1);
}

TEST(ConvertTest, LeavesAMissingPredictionUnset) {
  ScoredEvent event;
  event.logprobs.push_back({.token_id = 3, .logprob = kNaN});
  event.logprobs.push_back({.token_id = 4, .logprob = -2});
  v1::ScoreResponse response;
  ToProto(event, TokenView(), &response);
  EXPECT_FALSE(response.logprobs(0).has_logprob());
  EXPECT_EQ(response.logprobs(1).logprob(), -2);
  EXPECT_EQ(response.token_ids(1), 4u);
}

}  // namespace
}  // namespace mambad
