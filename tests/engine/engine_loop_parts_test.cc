// Prompt passes that go through the model in parts, decode steps between them.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/error.h"
#include "tests/engine/engine_loop_fixture.h"

namespace mambad {
namespace {

constexpr uint32_t kParts = 3;
constexpr uint64_t kSeed = 7;  // of TokensRequest

// A stream that decodes for ever beside what the tests do; its pass is over.
class EngineLoopPartsTest : public EachAhead {
 protected:
  static HarnessOptions Options() {
    HarnessOptions options;
    options.ahead = GetParam();
    options.parts = kParts;
    options.engine.prompt_share = kOnePart;
    return options;
  }
  void SetUp() override {
    for (int i = 0; i < 4; ++i) harness_.Tick();
    ASSERT_GT(StreamTokens(), 0u);
  }
  size_t StreamTokens() {
    harness_.Of(stream_).Read();
    return harness_.Of(stream_).tokens[0].size();
  }
  // Until a pass has begun and has parts left.
  RequestTicket SubmitHalfRead(GenerationRequest request) {
    const RequestTicket ticket = harness_.Submit(std::move(request));
    TickReport report;
    ticks_before_ = harness_.ledger.Stats().tick_prefill.count;
    for (int i = 0; i < 3 && report.prompt_tokens == 0 && !pass_began(); ++i) report = harness_.Tick();
    EXPECT_EQ(report.prompt_tokens, 0u);
    return ticket;
  }
  bool pass_began() const { return harness_.ledger.Stats().tick_prefill.count > ticks_before_; }
  void ExpectEnded(RequestTicket ticket, absl::StatusCode code) {
    harness_.Of(ticket).Read();
    ASSERT_TRUE(harness_.Of(ticket).end.has_value());
    EXPECT_EQ(harness_.Of(ticket).end->status.code(), code);
  }
  void ExpectTokens(RequestTicket ticket, const GenerationRequest& request) {
    harness_.Of(ticket).Read();
    EXPECT_EQ(harness_.Of(ticket).tokens[0], OracleRun(OracleState(), request, kSeed).tokens);
  }
  void ExpectStreamWhole() {
    const size_t tokens = StreamTokens();
    const OracleRun expected(OracleState(), LongTurn(Prompt(3), ""), kSeed);
    ASSERT_LE(tokens, expected.tokens.size());
    EXPECT_TRUE(std::equal(expected.tokens.begin(), expected.tokens.begin() + static_cast<ptrdiff_t>(tokens),
                           harness_.Of(stream_).tokens[0].begin()));
  }

  LoopHarness harness_{Options()};
  const RequestTicket stream_ = harness_.Submit(LongTurn(Prompt(3), ""));
  uint64_t ticks_before_ = 0;  // with a part of a pass
};

TEST_P(EngineLoopPartsTest, AStreamGetsATokenBetweenParts) {
  const GenerationRequest request = LongTurn(Prompt(9), "", 4);
  const RequestTicket ticket = SubmitHalfRead(request);
  for (uint32_t part = 2; part <= kParts; ++part) {
    const size_t before = StreamTokens();
    EXPECT_EQ(harness_.Tick().prompt_tokens, part == kParts ? 9u : 0u);
    EXPECT_EQ(StreamTokens(), before + 1);
  }
  for (int i = 0; i < 10; ++i) harness_.Tick();
  ExpectTokens(ticket, request);
  ExpectStreamWhole();
}

TEST_P(EngineLoopPartsTest, WithoutDecodingRowsAPassIsReadAtOnce) {
  harness_.Cancel(stream_);
  for (int i = 0; i < 3; ++i) harness_.Tick();
  harness_.Submit(LongTurn(Prompt(9), "", 4));
  EXPECT_EQ(harness_.Tick().prompt_tokens, 9u);
}

TEST_P(EngineLoopPartsTest, APassGoesOnAtOnceWhenTheLastDecodingRowEnds) {
  const RequestTicket ticket = SubmitHalfRead(LongTurn(Prompt(9), "", 4));
  harness_.Cancel(stream_);
  uint32_t tokens = 0;
  for (int i = 0; i < 2 && tokens == 0; ++i) tokens = harness_.Tick().prompt_tokens;
  EXPECT_EQ(tokens, 9u);
  harness_.Settle();
  ExpectTokens(ticket, LongTurn(Prompt(9), "", 4));
}

TEST_P(EngineLoopPartsTest, WhatEndsBetweenPartsGivesItsSlotBackAtOnceAndTheRestOfThePassGoesOn) {
  const uint32_t used = harness_.loop.pool().used();
  const RequestTicket first = harness_.Submit(LongTurn(Prompt(5), "", 4));
  const RequestTicket second = SubmitHalfRead(LongTurn(Prompt(6), "", 4));
  harness_.Cancel(first);
  harness_.Tick();
  ExpectEnded(first, absl::StatusCode::kCancelled);
  EXPECT_EQ(harness_.loop.pool().used(), used + 1);
  // The slot's next owner reads and decodes while the pass of its last one is under way or follows it.
  const RequestTicket next = harness_.Submit(LongTurn(Prompt(7), "", 4));
  for (int i = 0; i < 20; ++i) harness_.Tick();
  ExpectTokens(second, LongTurn(Prompt(6), "", 4));
  ExpectTokens(next, LongTurn(Prompt(7), "", 4));
  ExpectStreamWhole();
}

TEST_P(EngineLoopPartsTest, ATurnWithoutAPromptWaitsForNobodysPass) {
  ASSERT_TRUE(harness_.Create({.id = "new"}).ok());
  const RequestTicket first = harness_.Submit(LongTurn(Prompt(4), "new", 1));
  for (int i = 0; i < 8; ++i) harness_.Tick();
  ExpectEnded(first, absl::StatusCode::kOk);
  const OracleState before = harness_.StateOf("new");
  const GenerationRequest request = LongTurn(Prompt(9), "", 4);
  const RequestTicket ticket = SubmitHalfRead(request);
  const RequestTicket next = harness_.Submit(LongTurn({}, "new", 1));
  EXPECT_EQ(harness_.Tick().prompt_tokens, 0u);
  harness_.Of(next).Read();
  EXPECT_EQ(harness_.Of(next).tokens[0], OracleRun(before, LongTurn({}, "new", 1), kSeed).tokens);
  for (int i = 0; i < 10; ++i) harness_.Tick();
  ExpectTokens(ticket, request);
}

TEST_P(EngineLoopPartsTest, APassThatNobodyWaitsForIsDropped) {
  const RequestTicket given_up = SubmitHalfRead(LongTurn(Prompt(9), "", 4));
  harness_.Cancel(given_up);
  const RequestTicket next = harness_.Submit(LongTurn(Prompt(4), "", 4));
  int ticks = 0;
  while (harness_.Tick().prompt_tokens == 0) ASSERT_LT(++ticks, 10);
  ExpectEnded(given_up, absl::StatusCode::kCancelled);
  for (int i = 0; i < 10; ++i) harness_.Tick();
  ExpectTokens(next, LongTurn(Prompt(4), "", 4));
}

TEST_P(EngineLoopPartsTest, ASessionsTurnThatEndsBetweenPartsLeavesTheSessionAsItWas) {
  ASSERT_TRUE(harness_.Create({.id = "new"}).ok());
  GenerationRequest append;
  append.method = Method::kAppendInput;
  append.session_id = "new";
  append.prompt = Prompt(9);
  for (const bool reads_in_a_copy : {false, true}) {
    const OracleState before = harness_.StateOf("new");
    const RequestTicket ticket = harness_.Submit(append);
    for (int i = 0; i < 2; ++i) harness_.Tick();
    harness_.Cancel(ticket);
    for (int i = 0; i < 2; ++i) harness_.Tick();
    ExpectEnded(ticket, absl::StatusCode::kCancelled);
    EXPECT_EQ(harness_.StateOf("new"), before) << reads_in_a_copy;
    const RequestTicket whole = harness_.Submit(append);
    for (int i = 0; i < 8; ++i) harness_.Tick();
    ExpectEnded(whole, absl::StatusCode::kOk);
    EXPECT_EQ(harness_.StateOf("new"), OracleModel::ConsumePrompt(before, append.prompt));
  }
}

TEST_P(EngineLoopPartsTest, ADeadlineAndADeletedSessionEndATurnBetweenParts) {
  ASSERT_TRUE(harness_.Create({.id = "new"}).ok());
  const RequestTicket on_session = harness_.Submit(LongTurn(Prompt(9), "new", 4));
  GenerationRequest late = LongTurn(Prompt(9), "", 4);
  late.deadline = harness_.now() + 3 * LoopHarness::kTickTime;
  const RequestTicket due = SubmitHalfRead(late);
  EXPECT_TRUE(harness_.Delete({.id = "new"}).ok());
  for (int i = 0; i < 8; ++i) harness_.Tick();
  ExpectEnded(due, absl::StatusCode::kDeadlineExceeded);
  harness_.Of(on_session).Read();
  EXPECT_TRUE(harness_.Of(on_session).end.has_value());
  ExpectStreamWhole();
}

TEST_P(EngineLoopPartsTest, ADeviceThatFailsInAPartEndsEverything) {
  const RequestTicket ticket = SubmitHalfRead(LongTurn(Prompt(9), "", 4));
  harness_.oracle().FailAfter(1);  // the step before it succeeds
  for (int i = 0; i < 3; ++i) harness_.Tick();
  ExpectEnded(ticket, absl::StatusCode::kInternal);
  ExpectEnded(stream_, absl::StatusCode::kInternal);
}

// ---- How many parts go into a tick.

// A stream beside prompts, on a clock of the test's own; the loop has seen how long a part takes.
class PromptShareTest : public EachAhead {
 protected:
  void Begin(double share) {
    HarnessOptions options;
    options.engine.prompt_share = share;
    options.engine.sessions_max = 4;
    model_->SetParts(12);
    harness_.emplace(options, model_);
    harness_->loop.UseWallClock([this] { return model_->now; });
    harness_->Submit(LongTurn(Prompt(3), ""));
    for (int i = 0; i < 4; ++i) harness_->Tick();
    TicksOfAPass();
  }
  // Of a long prompt's pass.
  int TicksOfAPass() {
    model_->most_parts = 0;
    harness_->Submit(LongTurn(Prompt(20), "", 1));
    int ticks = 1;
    while (harness_->Tick().prompt_tokens == 0 && ticks < 50) ++ticks;
    for (int i = 0; i < 3; ++i) harness_->Tick();
    return ticks;
  }
  void Settle(RequestTicket ticket) {
    for (int i = 0; i < 40; ++i) harness_->Tick();
    harness_->Of(ticket).Read();
    ASSERT_TRUE(harness_->Of(ticket).end.has_value());
    ASSERT_TRUE(harness_->Of(ticket).end->status.ok());
  }

  const std::shared_ptr<TimedOracle> model_ = std::make_shared<TimedOracle>(ForwardLimits(), GetParam());
  std::optional<LoopHarness> harness_;
};

TEST_P(PromptShareTest, IsWhatATickSpendsOnPrompts) {
  for (const auto& [share, parts] : std::map<double, uint32_t>{{0.5, 1}, {0.75, 3}, {0.8, 4}, {1, 12}}) {
    Begin(share);
    const int ticks = TicksOfAPass();
    EXPECT_EQ(model_->most_parts, parts) << share;
    EXPECT_GE(ticks, static_cast<int>(12 / parts)) << share;
    EXPECT_LE(ticks, static_cast<int>(12 / parts) + 1) << share;
    harness_.reset();
  }
}

TEST_P(PromptShareTest, LearnsNothingFromWhatNeedsNoLayer) {
  Begin(0.75);
  GenerationRequest score;
  score.method = Method::kScore;
  score.score_text = {5};
  Settle(harness_->Submit(score));
  TicksOfAPass();
  EXPECT_EQ(model_->most_parts, 3u);
  ASSERT_TRUE(harness_->Create({.id = "s"}).ok());
  Settle(harness_->Submit(LongTurn(Prompt(4), "s", 1)));
  Settle(harness_->Submit(LongTurn({}, "s", 1)));
  TicksOfAPass();
  EXPECT_EQ(model_->most_parts, 3u);
}

TEST_P(PromptShareTest, TheHeadOfAScoredPromptHasATickOfItsOwn) {
  Begin(0.8);
  GenerationRequest score;
  score.method = Method::kScore;
  score.score_text = Prompt(100);
  const RequestTicket ticket = harness_->Submit(score);
  for (int ticks = 1; harness_->Tick().prompt_tokens == 0 && ticks < 50;) ++ticks;
  EXPECT_EQ(model_->began_at, 11u);
  Settle(ticket);
}

INSTANTIATE_TEST_SUITE_P(, PromptShareTest, kEveryAhead);

// ---- What a pass under way must not change for the others.

TEST_P(EngineLoopPartsTest, PromptTokensOfAPassInPartsAreCountedOnce) {
  const uint64_t before = harness_.ledger.Stats().prompt_tokens;
  harness_.Submit(LongTurn(Prompt(9), "", 4));
  for (int i = 0; i < 10; ++i) harness_.Tick();
  EXPECT_EQ(harness_.ledger.Stats().prompt_tokens - before, 9u);
}

TEST_P(EngineLoopPartsTest, APausedReaderThatHasReadIsNotEndedForWaitingOnSomebodysPass) {
  // 40 parts: a pass of another prompt takes 40 ticks; the stall timeout is 20 ticks.
  for (const uint32_t parts : {1u, 40u}) {
    SCOPED_TRACE(parts);  // 1: the control, as it was before passes had parts
    HarnessOptions options = Options();
    options.parts = parts;
    options.engine.stall_timeout = 20 * LoopHarness::kTickTime;
    options.engine.prompt_tokens_per_pass = options.engine.prompt_tokens_per_pass_idle = 4;
    LoopHarness harness(options);
    GenerationRequest slow = LongTurn(Prompt(16), "", 2);
    slow.output.prompt_logprobs = true;
    const RequestTicket reader = harness.Submit(slow, /*sink_capacity=*/1);
    // Alone: passes of 4 tokens, until its sink is full.
    for (int i = 0; i < 12; ++i) harness.Tick();
    const RequestTicket stream = harness.Submit(LongTurn(Prompt(3), ""));
    for (int i = 0; i < 2; ++i) harness.Tick();
    const RequestTicket other = harness.Submit(LongTurn(Prompt(4), "", 1));
    for (int i = 0; i < 2; ++i) harness.Tick();
    // It reads everything, at once and in time.
    harness.Of(reader).Read();
    ASSERT_FALSE(harness.Of(reader).end.has_value());
    for (int i = 0; i < 400; ++i) {
      harness.Tick();
      harness.Of(reader).Read();
      harness.Of(stream).Read();
      harness.Of(other).Read();
    }
    ASSERT_TRUE(harness.Of(reader).end.has_value());
    EXPECT_TRUE(harness.Of(reader).end->status.ok()) << harness.Of(reader).end->status;
  }
}

TEST_P(EngineLoopPartsTest, WhatItsTurnDidNotReadIsNotInTheUsage) {
  const RequestTicket ticket = SubmitHalfRead(LongTurn(Prompt(9), "", 4));
  harness_.Cancel(ticket);
  harness_.Tick();
  ExpectEnded(ticket, absl::StatusCode::kCancelled);
  EXPECT_EQ(harness_.Of(ticket).end->usage.input_tokens, 0u);
}

TEST_P(EngineLoopPartsTest, PromptTokensCountWhatWasReadForSomebody) {
  const uint64_t before = harness_.ledger.Stats().prompt_tokens;
  const RequestTicket first = harness_.Submit(LongTurn(Prompt(5), "", 4));
  SubmitHalfRead(LongTurn(Prompt(6), "", 4));
  harness_.Cancel(first);
  for (int i = 0; i < 10; ++i) harness_.Tick();
  EXPECT_EQ(harness_.ledger.Stats().prompt_tokens - before, 6u);
}

// A stream whose reader is behind for a moment gets no whole pass in its way.
TEST_P(EngineLoopPartsTest, AStreamThatIsPausedForATickDoesNotWaitForAWholePass) {
  HarnessOptions options = Options();
  options.parts = 40;
  LoopHarness harness(options);
  const RequestTicket stream = harness.Submit(LongTurn(Prompt(3), ""), /*sink_capacity=*/2);
  for (int i = 0; i < 4; ++i) {
    harness.Tick();
    harness.Of(stream).Read();
  }
  harness.Submit(LongTurn(Prompt(9), "", 4));
  for (int i = 0; i < 3; ++i) {
    harness.Tick();
    harness.Of(stream).Read();
  }
  int ticks = 0;
  while (harness.Tick().prompt_tokens == 0) ++ticks;  // nobody reads for some ticks
  EXPECT_GE(ticks, 30);
}

INSTANTIATE_TEST_SUITE_P(, EngineLoopPartsTest, kEveryAhead);

}  // namespace
}  // namespace mambad
