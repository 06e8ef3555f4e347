// Prompt passes that go through the model in parts, decode steps between them.
#include <gtest/gtest.h>

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
    for (int i = 0; i < 3 && report.prompt_tokens == 0 && !pass_began(); ++i) report = harness_.Tick();
    EXPECT_EQ(report.prompt_tokens, 0u);
    return ticket;
  }
  bool pass_began() const { return harness_.ledger.Stats().tick_prefill.count > passes_; }
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
  const uint64_t passes_ = 1;
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

INSTANTIATE_TEST_SUITE_P(, EngineLoopPartsTest, kEveryAhead);

}  // namespace
}  // namespace mambad
