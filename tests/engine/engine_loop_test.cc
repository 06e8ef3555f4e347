#include "engine/schedule/engine_loop.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "engine/error.h"
#include "tests/engine/engine_loop_fixture.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_run.h"

namespace mambad {
namespace {

TEST_P(EngineLoopTest, ConsumesEveryTokenButTheEndOfSequence) {
  GenerationRequest request = TokensRequest(Prompt(3), 1000, kSession);
  for (const bool consume : {false, true}) {
    request.stop.consume_stop_token = consume;
    const OracleRun expected(harness_.StateOf(kSession), request, 7);
    ASSERT_EQ(expected.reason, FinishReason::kEos);
    Transcript& got = harness_.Run(request);
    EXPECT_EQ(got.tokens[0], expected.tokens);
    EXPECT_EQ(got.finished[0].reason, FinishReason::kEos);
    EXPECT_EQ(got.finished[0].usage.output_tokens, expected.tokens.size());
    EXPECT_EQ(got.finished[0].usage.session_position, expected.FinalState().position);
    EXPECT_EQ(harness_.StateOf(kSession), expected.FinalState());
  }
}

TEST_P(EngineLoopTest, EndsAtAStopTokenWithoutConsumingIt) {
  GenerationRequest request = LongTurn(Prompt(3));
  request.stop.stop_token_ids = {OracleRun(before_, request, 7).tokens[4]};
  const OracleRun expected(before_, request, 7);
  ASSERT_EQ(expected.reason, FinishReason::kStopToken);
  Transcript& got = harness_.Run(request);
  EXPECT_EQ(got.tokens[0], expected.tokens);
  EXPECT_EQ(got.finished[0].reason, FinishReason::kStopToken);
  EXPECT_EQ(harness_.StateOf(kSession), expected.FinalState());
}

TEST_P(EngineLoopTest, DrawsNoEndBeforeMinOutputTokens) {
  GenerationRequest request = TokensRequest(Prompt(3), 200, kSession);
  request.stop.min_output_tokens = 150;
  const OracleRun expected(before_, request, 7);
  Transcript& got = harness_.Run(request);
  EXPECT_EQ(got.tokens[0], expected.tokens);
  EXPECT_GE(got.tokens[0].size(), 150u);
}

TEST_P(EngineLoopTest, ConsumesTheLastTokenUnderALengthLimit) {
  const GenerationRequest request = LongTurn(Prompt(3), kSession, 6);
  const OracleRun expected(before_, request, 7);
  Transcript& got = harness_.Run(request);
  EXPECT_EQ(got.tokens[0], expected.tokens);
  EXPECT_EQ(got.finished[0].reason, FinishReason::kLength);
  EXPECT_EQ(got.finished[0].usage.session_position, before_.position + 3 + 6);
  ExpectIdleAt(expected.FinalState());
}

TEST_P(EngineLoopTest, AnEmptyPromptContinuesFromTheLastHiddenRow) {
  const GenerationRequest request = LongTurn({}, kSession, 6);
  const OracleRun expected(before_, request, 7);
  EXPECT_EQ(harness_.Run(request).tokens[0], expected.tokens);
  ExpectIdleAt(expected.FinalState());
}

TEST_P(EngineLoopTest, AnEmptyPromptAtPositionZeroIsInvalid) {
  ASSERT_TRUE(harness_.Create({.id = "empty"}).ok());
  Transcript& got = harness_.Run(LongTurn({}, "empty"));
  EXPECT_TRUE(absl::IsInvalidArgument(got.end->status));
  EXPECT_EQ(DetailOf(got.end->status).field, "prompt");
}

TEST_P(EngineLoopTest, CancelInThePromptPhaseLeavesTheSessionAsItWas) {
  const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(20)));
  harness_.Tick();
  harness_.Tick();
  EXPECT_EQ(harness_.loop.pool().used(), 2u);
  EXPECT_EQ(harness_.Get(kSession)->state, SessionState::kPrefilling);
  EXPECT_EQ(harness_.Get(kSession)->position, before_.position);
  harness_.Cancel(ticket);
  harness_.Tick();
  harness_.Of(ticket).Read();
  EXPECT_TRUE(absl::IsCancelled(harness_.Of(ticket).end->status));
  ExpectIdleAt(before_);
}

TEST_P(EngineLoopTest, CancelOfAFirstTurnInItsPromptPhaseEmptiesTheSession) {
  ASSERT_TRUE(harness_.Delete({.id = kSession}).ok());
  ASSERT_TRUE(harness_.Create({.id = kSession}).ok());
  const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(20)));
  harness_.Tick();
  harness_.Tick();
  EXPECT_EQ(harness_.loop.pool().used(), 1u);
  harness_.Cancel(ticket);
  harness_.Tick();
  ExpectIdleAt(OracleState());
}

TEST_P(EngineLoopTest, CancelAfterTheFirstTokenKeepsExactlyTheEmittedTokens) {
  for (int ticks = 2; ticks < 12; ++ticks) {
    const OracleState start = harness_.StateOf(kSession);
    const GenerationRequest request = LongTurn(Prompt(3));
    const RequestTicket ticket = harness_.Submit(request);
    for (int i = 0; i < ticks; ++i) harness_.Tick();
    EXPECT_EQ(harness_.loop.pool().used(), 1u);
    harness_.Cancel(ticket);
    harness_.Settle();
    Transcript& got = harness_.Of(ticket);
    got.Read();
    ASSERT_TRUE(got.end.has_value());
    EXPECT_TRUE(absl::IsCancelled(got.end->status));
    EXPECT_EQ(got.end->usage.output_tokens, got.tokens[0].size());
    const OracleRun expected(start, request, 7);
    ExpectIdleAt(expected.StateAfter(got.tokens[0].size()));
  }
}

TEST_P(EngineLoopTest, ADeadlineEndsARequestAtEveryStage) {
  for (const int milliseconds : {1, 2, 4, 8, 16}) {
    const OracleState start = harness_.StateOf(kSession);
    GenerationRequest request = LongTurn(Prompt(12));
    request.deadline = harness_.now() + absl::Milliseconds(milliseconds);
    Transcript& got = harness_.Run(request);
    EXPECT_TRUE(absl::IsDeadlineExceeded(got.end->status));
    EXPECT_LE(harness_.now(), request.deadline + absl::Milliseconds(3));
    const size_t emitted = got.tokens[0].size();
    ExpectIdleAt(emitted == 0 ? start : OracleRun(start, request, 7).StateAfter(emitted));
  }
}

TEST_P(EngineLoopTest, ADeadlineThatHasPassedIsRefusedAtOnce) {
  GenerationRequest request = LongTurn(Prompt(1));
  request.deadline = harness_.now();
  EXPECT_TRUE(absl::IsDeadlineExceeded(harness_.TrySubmit(request).status()));
  ExpectIdleAt(before_);
}

TEST_P(EngineLoopTest, AFullSinkPausesAndThenEndsTheRequest) {
  const GenerationRequest request = LongTurn(Prompt(3));
  const RequestTicket ticket = harness_.Submit(request, /*sink_capacity=*/4);
  for (int i = 0; i < 10; ++i) harness_.Tick();
  EXPECT_EQ(harness_.Get(kSession)->state, SessionState::kPaused);
  Transcript& got = harness_.Of(ticket);
  got.Read(3);  // Started and two Deltas
  EXPECT_EQ(got.tokens[0].size(), 2u);
  for (int i = 0; i < 10; ++i) harness_.Tick();
  got.Read();
  EXPECT_EQ(got.tokens[0].size(), 6u);
  harness_.Settle();
  harness_.Advance(harness_.options.stall_timeout);
  harness_.Settle();
  got.Read();
  ASSERT_TRUE(got.end.has_value());
  EXPECT_TRUE(absl::IsResourceExhausted(got.end->status));
  EXPECT_EQ(DetailOf(got.end->status).reason, reason::kSlowReader);
  ExpectIdleAt(OracleRun(before_, request, 7).StateAfter(got.tokens[0].size()));
}

TEST_P(EngineLoopTest, APausedRequestRunsOnWhenThereIsRoom) {
  const GenerationRequest request = LongTurn(Prompt(3), kSession, 50);
  const RequestTicket ticket = harness_.Submit(request, /*sink_capacity=*/2);
  Transcript& got = harness_.Of(ticket);
  for (int i = 0; i < 200 && !got.end; ++i) {
    harness_.Tick();
    got.Read(1);
  }
  ASSERT_TRUE(got.end.has_value());
  EXPECT_EQ(got.tokens[0], OracleRun(before_, request, 7).tokens);
}

TEST_P(EngineLoopTest, ANonFinitePromptEndsItsRequestAloneAndPutsTheSessionBack) {
  const RequestTicket neighbour = harness_.Submit(LongTurn(Prompt(3), "", 30));
  Tokens prompt = Prompt(9);
  prompt[4] = OracleModel::kPoisonToken;
  Transcript& got = harness_.Run(LongTurn(prompt));
  EXPECT_TRUE(absl::IsInternal(got.end->status));
  EXPECT_EQ(DetailOf(got.end->status).reason, reason::kStatePoisoned);
  EXPECT_TRUE(got.tokens.empty());
  harness_.Of(neighbour).Read();
  EXPECT_TRUE(harness_.Of(neighbour).end->status.ok());
  ExpectIdleAt(before_);
}

TEST_P(EngineLoopTest, ANonFiniteStepQuarantinesItsSession) {
  GenerationRequest request = LongTurn(Prompt(3));
  request.sampling.logit_bias = {{OracleModel::kPoisonToken, 100}};
  Transcript& got = harness_.Run(request);
  EXPECT_TRUE(absl::IsInternal(got.end->status));
  EXPECT_EQ(got.tokens[0].back(), OracleModel::kPoisonToken);
  for (const GenerationRequest& next : {LongTurn(Prompt(1)), LongTurn({})}) {
    EXPECT_EQ(DetailOf(harness_.Run(next).end->status).reason, reason::kStatePoisoned);
  }
  EXPECT_EQ(DetailOf(harness_.Fork({.source_id = kSession, .id = "fork"}).status()).reason,
            reason::kStatePoisoned);
  EXPECT_TRUE(harness_.Delete({.id = kSession}).ok());
  EXPECT_EQ(harness_.loop.pool().used(), 0u);
}

TEST_P(EngineLoopTest, ALostDeviceEndsEverythingAndAcceptsNothing) {
  const RequestTicket running = harness_.Submit(LongTurn(Prompt(3)));
  for (int i = 0; i < 4; ++i) harness_.Tick();
  harness_.oracle().FailAfter(0);
  harness_.Tick();
  harness_.Of(running).Read();
  ASSERT_TRUE(harness_.Of(running).end.has_value());
  EXPECT_TRUE(absl::IsInternal(harness_.Of(running).end->status));
  EXPECT_EQ(DetailOf(harness_.Of(running).end->status).reason, reason::kDeviceLost);
  EXPECT_TRUE(absl::IsUnavailable(harness_.TrySubmit(LongTurn(Prompt(3))).status()));
  EXPECT_TRUE(absl::IsUnavailable(harness_.Create({.id = "new"}).status()));
}

TEST_P(EngineLoopTest, ASecondRequestOnARunningSessionIsAborted) {
  const GenerationRequest request = LongTurn(Prompt(10), kSession, 20);
  const RequestTicket first = harness_.Submit(request);
  const RequestTicket second = harness_.Submit(request);
  harness_.Tick();
  harness_.Of(second).Read();
  ASSERT_TRUE(harness_.Of(second).end.has_value());
  EXPECT_TRUE(absl::IsAborted(harness_.Of(second).end->status));
  EXPECT_EQ(DetailOf(harness_.Of(second).end->status).reason, reason::kSessionBusy);
  harness_.Settle();
  harness_.Of(first).Read();
  const OracleRun expected(before_, request, 7);
  EXPECT_EQ(harness_.Of(first).tokens[0], expected.tokens);
  ExpectIdleAt(expected.FinalState());
}

TEST_P(EngineLoopTest, AWrongExpectedPositionIsAbortedAndNamesTheRightOne) {
  GenerationRequest request = LongTurn(Prompt(3));
  request.expect_position = before_.position + 1;
  Transcript& got = harness_.Run(request);
  EXPECT_TRUE(absl::IsAborted(got.end->status));
  EXPECT_EQ(DetailOf(got.end->status).reason, reason::kPositionMismatch);
  EXPECT_EQ(DetailOf(got.end->status).metadata["position"], std::to_string(before_.position));
  ExpectIdleAt(before_);
}

TEST_P(EngineLoopTest, AnUnknownSessionIsNotFound) {
  Transcript& got = harness_.Run(LongTurn(Prompt(3), "unknown"));
  EXPECT_TRUE(absl::IsNotFound(got.end->status));
  EXPECT_EQ(DetailOf(got.end->status).reason, reason::kSessionNotFound);
  EXPECT_TRUE(absl::IsNotFound(harness_.Get("unknown").status()));
  EXPECT_TRUE(absl::IsNotFound(harness_.Delete({.id = "unknown"}).status()));
  EXPECT_TRUE(harness_.Delete({.id = "unknown", .allow_missing = true}).ok());
  EXPECT_TRUE(absl::IsNotFound(harness_.Fork({.source_id = "unknown"}).status()));
}

TEST_P(EngineLoopTest, AForkOfARunningSessionIsItsLastCompletedStep) {
  const GenerationRequest request = LongTurn(Prompt(8), kSession, 10);
  const OracleRun expected(before_, request, 7);
  const RequestTicket ticket = harness_.Submit(request);
  for (int tick = 0; tick < 12; ++tick) {
    const absl::StatusOr<SessionInfo> fork = harness_.Fork({.source_id = kSession, .id = "fork"});
    ASSERT_TRUE(fork.ok());
    const OracleState state = harness_.StateOf("fork");
    EXPECT_EQ(state.position, fork->position);
    const uint64_t read = before_.position + 8;
    EXPECT_EQ(state, fork->position < read ? before_ : expected.StateAfter(fork->position - read));
    ASSERT_TRUE(harness_.Delete({.id = "fork"}).ok());
  }
  harness_.Settle();
  harness_.Of(ticket).Read();
  EXPECT_EQ(harness_.Of(ticket).tokens[0], expected.tokens);
}

TEST_P(EngineLoopTest, AForkInAFirstTurnsPromptPhaseIsEmpty) {
  ASSERT_TRUE(harness_.Create({.id = "new"}).ok());
  const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(20), "new", 2));
  harness_.Tick();
  harness_.Tick();
  ASSERT_TRUE(harness_.Fork({.source_id = "new", .id = "fork"}).ok());
  EXPECT_EQ(harness_.StateOf("fork"), OracleState());
  harness_.Settle();
  harness_.Of(ticket).Read();
  EXPECT_TRUE(harness_.Of(ticket).end->status.ok());
}

TEST_P(EngineLoopTest, AppendInputConsumesAllOrNothing) {
  GenerationRequest append;
  append.method = Method::kAppendInput;
  append.session_id = kSession;
  append.prompt = Prompt(9);
  const OracleState after = OracleModel::ConsumePrompt(before_, append.prompt);
  const RequestTicket ticket = harness_.Submit(append);
  harness_.Tick();
  harness_.Tick();
  harness_.Cancel(ticket);
  harness_.Tick();
  EXPECT_EQ(harness_.StateOf(kSession), before_);

  Transcript& got = harness_.Run(append);
  EXPECT_TRUE(got.end->status.ok());
  EXPECT_EQ(got.end->usage.input_tokens, 9u);
  EXPECT_EQ(got.end->usage.session_position, after.position);
  EXPECT_EQ(harness_.StateOf(kSession), after);

  append.prompt[8] = OracleModel::kPoisonToken;
  EXPECT_TRUE(absl::IsInternal(harness_.Run(append).end->status));
  ExpectIdleAt(after);
}

// What the engine says of the session after `got` is what Get says of it then.
void ExpectSessionInEnd(LoopHarness& harness, const Transcript& got) {
  ASSERT_TRUE(got.end.has_value());
  ASSERT_TRUE(got.end->session.has_value()) << got.end->status;
  const absl::StatusOr<SessionInfo> info = harness.Get(kSession);
  ASSERT_TRUE(info.ok());
  EXPECT_EQ(got.end->session->id, kSession);
  EXPECT_EQ(got.end->session->state, SessionState::kIdle);
  EXPECT_EQ(got.end->session->position, got.end->usage.session_position);
  EXPECT_EQ(got.end->session->position, info->position);
  EXPECT_EQ(got.end->session->etag, info->etag);
  EXPECT_EQ(got.end->session->expire_time, info->expire_time);
}

TEST_P(EngineLoopTest, EndCarriesTheSessionAsTheTurnLeavesIt) {
  ExpectSessionInEnd(harness_, harness_.Run(LongTurn(Prompt(3), kSession, 4)));
  GenerationRequest append = TokensRequest(Prompt(3), 1, kSession);
  append.method = Method::kAppendInput;
  ExpectSessionInEnd(harness_, harness_.Run(append));
  GenerationRequest score = append;
  score.method = Method::kScore;
  score.score_text = Prompt(2);
  ExpectSessionInEnd(harness_, harness_.Run(score));
  for (const int ticks : {1, 2, 6}) {
    const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(8)));
    for (int i = 0; i < ticks; ++i) harness_.Tick();
    harness_.Cancel(ticket);
    harness_.Settle();
    harness_.Of(ticket).Read();
    ExpectSessionInEnd(harness_, harness_.Of(ticket));
  }
}

TEST_P(EngineLoopTest, EndCarriesNoSessionThatTheRequestDidNotTakeUpOrThatIsGone) {
  EXPECT_FALSE(harness_.Run(LongTurn(Prompt(3), "", 2)).end->session.has_value());
  EXPECT_FALSE(harness_.Run(LongTurn(Prompt(3), "unknown")).end->session.has_value());
  const RequestTicket running = harness_.Submit(LongTurn(Prompt(3)));
  const RequestTicket busy = harness_.Submit(LongTurn(Prompt(3)));
  harness_.Tick();
  ASSERT_TRUE(harness_.Delete({.id = kSession}).ok());
  for (const RequestTicket ticket : {running, busy}) {
    harness_.Of(ticket).Read();
    ASSERT_TRUE(harness_.Of(ticket).end.has_value());
    EXPECT_FALSE(harness_.Of(ticket).end->session.has_value());
  }
}

TEST_P(EngineLoopTest, ACancelledRequestEndsAndCountsWithTheStatusOfItsCanceller) {
  const absl::Status verdict = absl::ResourceExhaustedError("the answer is too large");
  for (const int ticks : {0, 1, 6}) {
    const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(8)));
    for (int i = 0; i < ticks; ++i) harness_.Tick();
    harness_.Cancel(ticket, verdict);
    harness_.Cancel(ticket);
    harness_.Settle();
    harness_.Of(ticket).Read();
    ASSERT_TRUE(harness_.Of(ticket).end.has_value());
    EXPECT_EQ(harness_.Of(ticket).end->status, verdict);
  }
  const EngineStats stats = harness_.ledger.Stats();
  const auto& finished = stats.requests_finished[static_cast<size_t>(Method::kGenerate)];
  EXPECT_EQ(finished[static_cast<size_t>(absl::StatusCode::kResourceExhausted)], 3u);
  EXPECT_EQ(finished[static_cast<size_t>(absl::StatusCode::kCancelled)], 0u);
}

TEST_P(EngineLoopTest, ScoreReadsASessionAndNeverChangesIt) {
  GenerationRequest score;
  score.method = Method::kScore;
  score.session_id = kSession;
  for (const uint32_t context : {0u, 1u, 6u}) {
    for (const uint32_t text : {1u, 2u, 7u}) {
      score.prompt = Prompt(context);
      score.score_text = Prompt(text, 40);
      Transcript& got = harness_.Run(score);
      ASSERT_TRUE(got.scored.has_value()) << got.end->status;
      ASSERT_EQ(got.scored->logprobs.size(), text);
      OracleState state = OracleModel::ConsumePrompt(before_, score.prompt);
      double total = 0;
      for (uint32_t i = 0; i < text; ++i) {
        EXPECT_EQ(got.scored->logprobs[i].logprob, OracleModel::Logprob(state, score.score_text[i]));
        total += got.scored->logprobs[i].logprob;
        state = OracleModel::Consume(state, score.score_text[i], true);
      }
      EXPECT_EQ(got.scored->total_logprob, total);
      EXPECT_EQ(got.end->usage.input_tokens, context + text);
    }
  }
  ExpectIdleAt(before_);
}

TEST_P(EngineLoopTest, TheFirstTokenEverHasNoPrediction) {
  GenerationRequest score;
  score.method = Method::kScore;
  for (const uint32_t text : {1u, 5u}) {
    score.score_text = Prompt(text);
    Transcript& got = harness_.Run(score);
    ASSERT_TRUE(got.scored.has_value());
    ASSERT_EQ(got.scored->logprobs.size(), text);
    EXPECT_TRUE(std::isnan(got.scored->logprobs[0].logprob));
    EXPECT_TRUE(std::isfinite(got.scored->total_logprob));
  }
}

TEST_P(EngineLoopTest, ReportsLogprobsOfPromptAndOutput) {
  for (const bool on_session : {false, true}) {
    const OracleState start = on_session ? before_ : OracleState();
    GenerationRequest request = LongTurn(Prompt(11), on_session ? kSession : "", 4);
    request.output.prompt_logprobs = true;
    request.output.logprobs = true;
    request.output.top_logprobs = 3;
    const OracleRun expected(start, request, 7);
    Transcript& got = harness_.Run(request);
    ASSERT_EQ(got.prompt_logprobs.size(), 11u);
    OracleState state = start;
    for (size_t i = 0; i < 11; ++i) {
      const TokenLogprob& score = got.prompt_logprobs[i];
      EXPECT_EQ(score.token_id, request.prompt[i]);
      if (state.position == 0) {
        EXPECT_TRUE(std::isnan(score.logprob));
      } else {
        EXPECT_EQ(score.logprob, OracleModel::Logprob(state, request.prompt[i]));
        EXPECT_EQ(score.top.size(), 3u);
      }
      state = OracleModel::Consume(state, request.prompt[i], true);
    }
    ASSERT_EQ(got.logprobs[0].size(), 4u);
    for (size_t i = 0; i < 4; ++i) {
      EXPECT_EQ(got.logprobs[0][i].token_id, expected.tokens[i]);
      EXPECT_EQ(got.logprobs[0][i].logprob, OracleModel::Logprob(expected.StateAfter(i), expected.tokens[i]));
      EXPECT_EQ(got.logprobs[0][i].top.size(), 3u);
    }
  }
}

TEST_P(EngineLoopTest, CandidatesShareOnePrefillAndGoTheirOwnWays) {
  GenerationRequest request = TokensRequest(Prompt(6), 40);
  request.candidate_count = 5;
  request.sampling.frequency_penalty = 0.5;
  const uint64_t prompt_tokens = harness_.oracle().prompt_tokens();
  Transcript& got = harness_.Run(request);
  EXPECT_EQ(harness_.oracle().prompt_tokens() - prompt_tokens, 6u);
  ASSERT_EQ(got.finished.size(), 5u);
  uint64_t output_tokens = 0;
  for (uint32_t i = 0; i < 5; ++i) {
    const OracleRun expected(OracleState(), request, 7, i);
    EXPECT_EQ(got.tokens[i], expected.tokens);
    EXPECT_EQ(got.finished[i].reason, expected.reason);
    EXPECT_EQ(got.finished[i].usage.output_tokens, expected.tokens.size());
    output_tokens += expected.tokens.size();
  }
  EXPECT_EQ(got.end->usage.output_tokens, output_tokens);
  EXPECT_NE(got.tokens[0], got.tokens[1]);
}

TEST_P(EngineLoopTest, AnOutputDependsOnSeedCandidateAndIndexAlone) {
  GenerationRequest request = TokensRequest(Prompt(4), 30);
  request.sampling.seed.reset();
  Transcript& drawn = harness_.Run(request);
  ASSERT_TRUE(drawn.started.has_value());
  request.sampling.seed = drawn.started->seed;
  EXPECT_EQ(harness_.Run(request).tokens[0], drawn.tokens[0]);
  EXPECT_EQ(drawn.tokens[0], OracleRun(OracleState(), request, drawn.started->seed).tokens);
}

TEST_P(EngineLoopTest, DeletingARunningSessionEndsItsRequestAndFreesTheSlot) {
  for (const int ticks : {1, 3, 8}) {
    ASSERT_TRUE(harness_.Create({.id = "gone"}).ok());
    const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(12), "gone"));
    for (int i = 0; i < ticks; ++i) harness_.Tick();
    ASSERT_TRUE(harness_.Delete({.id = "gone"}).ok());
    harness_.Of(ticket).Read();
    ASSERT_TRUE(harness_.Of(ticket).end.has_value());
    EXPECT_TRUE(absl::IsCancelled(harness_.Of(ticket).end->status));
    EXPECT_EQ(harness_.loop.pool().used(), 1u);
  }
}

TEST_P(EngineLoopTest, AnExpiredSessionIsGoneWithinATick) {
  ASSERT_TRUE(harness_.Create({.id = "brief", .ttl = absl::Seconds(2)}).ok());
  harness_.Advance(absl::Seconds(1));
  ASSERT_TRUE(harness_.Run(LongTurn(Prompt(3), "brief", 3)).end->status.ok());
  harness_.Advance(absl::Milliseconds(1900));
  harness_.Tick();
  EXPECT_EQ(harness_.loop.pool().used(), 2u);  // the turn started the ttl anew
  harness_.Advance(absl::Milliseconds(200));
  EXPECT_EQ(harness_.Tick().next_event, harness_.Get(kSession)->expire_time);
  EXPECT_EQ(harness_.loop.pool().used(), 1u);
  EXPECT_TRUE(absl::IsNotFound(harness_.Get("brief").status()));
}

TEST_P(EngineLoopTest, ASessionDoesNotExpireWhileARequestIsOpen) {
  HarnessOptions options;
  options.ahead = GetParam();
  options.engine.stall_timeout = absl::Hours(1);
  LoopHarness harness(options);
  ASSERT_TRUE(harness.Create({.id = "brief", .ttl = absl::Seconds(1)}).ok());
  const RequestTicket ticket = harness.Submit(LongTurn(Prompt(3), "brief", 20), /*sink_capacity=*/2);
  for (int i = 0; i < 5; ++i) harness.Tick();
  harness.Advance(absl::Minutes(1));
  harness.Tick();
  EXPECT_EQ(harness.Get("brief")->state, SessionState::kPaused);
  while (!harness.Of(ticket).end) {
    harness.Of(ticket).Read();
    harness.Tick();
  }
  EXPECT_TRUE(harness.Of(ticket).end->status.ok());
  EXPECT_TRUE(harness.Get("brief").ok());
  harness.Advance(absl::Seconds(2));
  EXPECT_TRUE(absl::IsNotFound(harness.Get("brief").status()));
}

INSTANTIATE_TEST_SUITE_P(Ahead, EngineLoopTest, kEveryAhead);

}  // namespace
}  // namespace mambad
