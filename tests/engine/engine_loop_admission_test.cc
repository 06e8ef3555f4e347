// Who starts, who waits and who is refused.
#include <gtest/gtest.h>

#include "engine/error.h"
#include "engine/schedule/engine_loop.h"
#include "tests/engine/engine_loop_fixture.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_run.h"

namespace mambad {
namespace {

using EngineLoopAdmissionTest = EngineLoopTest;

TEST_P(EngineLoopAdmissionTest, WithoutAFreeSlotSessionsAreRefusedWithRetryInfo) {
  for (uint32_t i = 1; i < harness_.options.sessions_max; ++i) ASSERT_TRUE(harness_.Create({}).ok());
  for (const absl::Status& status :
       {harness_.Create({}).status(), harness_.Fork({.source_id = kSession}).status()}) {
    EXPECT_TRUE(absl::IsResourceExhausted(status));
    EXPECT_EQ(DetailOf(status).reason, reason::kNoFreeSlot);
    EXPECT_TRUE(DetailOf(status).retry_after.has_value());
  }
  EXPECT_TRUE(absl::IsAlreadyExists(harness_.Create({.id = kSession}).status()));
}

TEST_P(EngineLoopAdmissionTest, ATurnWaitsForTheSecondSlotOfItsWayBack) {
  std::vector<RequestTicket> fillers;
  for (int i = 0; i < 7; ++i) fillers.push_back(harness_.Submit(LongTurn(Prompt(1), "", 20 + i)));
  harness_.Tick();
  const GenerationRequest request = LongTurn(Prompt(3), kSession, 3);
  const RequestTicket ticket = harness_.Submit(request);
  harness_.Tick();
  EXPECT_EQ(harness_.Get(kSession)->state, SessionState::kWaiting);
  EXPECT_EQ(harness_.ledger.Stats().requests_waiting, 1u);
  harness_.Settle();
  harness_.Of(ticket).Read();
  EXPECT_EQ(harness_.Of(ticket).tokens[0], OracleRun(before_, request, 7).tokens);
}

TEST_P(EngineLoopAdmissionTest, ARequestThatSessionsLeaveNoRoomForIsRefused) {
  GenerationRequest request = LongTurn(Prompt(3), "", 3);
  request.candidate_count = 8;
  const absl::Status status = harness_.Run(request).end->status;
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_EQ(DetailOf(status).reason, reason::kNoFreeSlot);
}

TEST_P(EngineLoopAdmissionTest, DrainEndsWhatWaitsAtOnceAndWhatRunsByTheDeadline) {
  const GenerationRequest running = LongTurn(Prompt(3), kSession);
  const RequestTicket session = harness_.Submit(running);
  const RequestTicket quick = harness_.Submit(LongTurn(Prompt(2), "", 3));
  harness_.Tick();
  std::vector<RequestTicket> waiting;
  for (int i = 0; i < 9; ++i) waiting.push_back(harness_.Submit(LongTurn(Prompt(30), "", 100)));
  harness_.Tick();
  int drained = 0;
  harness_.ledger.SetDraining();
  harness_.mailbox.PostDrain({harness_.now() + absl::Milliseconds(30), [&] { ++drained; }});
  harness_.Tick();
  EXPECT_TRUE(absl::IsUnavailable(harness_.TrySubmit(LongTurn(Prompt(3))).status()));
  EXPECT_TRUE(absl::IsUnavailable(harness_.Create({}).status()));
  EXPECT_EQ(harness_.ledger.Stats().requests_waiting, 0u);
  EXPECT_EQ(drained, 0);
  for (int i = 0; i < 40; ++i) harness_.Tick();
  EXPECT_EQ(drained, 1);
  harness_.Of(quick).Read();
  EXPECT_TRUE(harness_.Of(quick).end->status.ok());
  Transcript& got = harness_.Of(session);
  got.Read();
  EXPECT_TRUE(absl::IsUnavailable(got.end->status));
  EXPECT_EQ(harness_.StateOf(kSession), OracleRun(before_, running, 7).StateAfter(got.tokens[0].size()));
}

TEST_P(EngineLoopAdmissionTest, MaxQueueTimeEndsAWaitingRequest) {
  for (int i = 0; i < 7; ++i) harness_.Submit(LongTurn(Prompt(1), "", 100));
  harness_.Tick();
  GenerationRequest request = LongTurn(Prompt(1), "", 3);
  request.max_queue_time = absl::Milliseconds(5);
  const RequestTicket ticket = harness_.Submit(request);
  for (int i = 0; i < 7; ++i) harness_.Tick();
  harness_.Of(ticket).Read();
  ASSERT_TRUE(harness_.Of(ticket).end.has_value());
  EXPECT_EQ(DetailOf(harness_.Of(ticket).end->status).reason, reason::kQueueTimeExceeded);
}

TEST_P(EngineLoopAdmissionTest, MaxQueueTimeNeverEndsARequestThatFindsItsSlots) {
  for (const absl::Duration max : {absl::ZeroDuration(), absl::Milliseconds(5)}) {
    GenerationRequest request = LongTurn(Prompt(1), "", 3);
    request.max_queue_time = max;
    const RequestTicket ticket = harness_.Submit(request);
    harness_.Advance(absl::Seconds(1));  // the tick before took this long
    harness_.Settle();
    harness_.Of(ticket).Read();
    ASSERT_TRUE(harness_.Of(ticket).end.has_value());
    EXPECT_TRUE(harness_.Of(ticket).end->status.ok()) << harness_.Of(ticket).end->status;
  }
}

TEST_P(EngineLoopAdmissionTest, ADeadlineThatPassedInTheQueueEndsARequestAlsoWhereSlotsAreFree) {
  GenerationRequest request = LongTurn(Prompt(1), "", 3);
  request.deadline = harness_.now() + absl::Milliseconds(5);
  const RequestTicket ticket = harness_.Submit(request);
  harness_.Advance(absl::Seconds(1));
  harness_.Tick();
  harness_.Of(ticket).Read();
  ASSERT_TRUE(harness_.Of(ticket).end.has_value());
  EXPECT_TRUE(absl::IsDeadlineExceeded(harness_.Of(ticket).end->status));
  EXPECT_FALSE(harness_.Of(ticket).started.has_value());
}

// All slots are held for long, and the mean time that a request holds its slots is known.
void FillThePool(LoopHarness& harness, int slots) {
  harness.Run(LongTurn(Prompt(1), "", 200));
  for (int i = 0; i < slots; ++i) harness.Submit(LongTurn(Prompt(1), ""));
  for (int i = 0; i < 4; ++i) harness.Tick();
  ASSERT_EQ(harness.loop.pool().free(), 0u);
}

TEST_P(EngineLoopAdmissionTest, ASessionsTurnThatNeedsNoSlotStartsWithAllSlotsTaken) {
  ASSERT_TRUE(harness_.Create({.id = "new"}).ok());
  FillThePool(harness_, 6);
  for (GenerationRequest request : {LongTurn({}, kSession, 3), LongTurn(Prompt(3), "new", 3)}) {
    request.deadline = harness_.now() + absl::Milliseconds(20);
    request.max_queue_time = absl::Milliseconds(1);
    const absl::StatusOr<RequestTicket> ticket = harness_.TrySubmit(request);
    ASSERT_TRUE(ticket.ok()) << ticket.status();
    for (int i = 0; i < 8; ++i) harness_.Tick();
    harness_.Of(*ticket).Read();
    ASSERT_TRUE(harness_.Of(*ticket).end.has_value());
    EXPECT_TRUE(harness_.Of(*ticket).end->status.ok()) << harness_.Of(*ticket).end->status;
  }
}

TEST_P(EngineLoopAdmissionTest, ASessionsTurnThatWaitsTooLongForItsSlotIsRefusedWhenItIsTakenUp) {
  FillThePool(harness_, 7);
  const absl::StatusOr<SessionInfo> before = harness_.Get(kSession);
  ASSERT_TRUE(before.ok());
  for (const bool by_deadline : {false, true}) {
    GenerationRequest request = LongTurn(Prompt(3), kSession, 3);
    if (by_deadline) {
      request.deadline = harness_.now() + absl::Milliseconds(2);
    } else {
      request.max_queue_time = absl::Milliseconds(2);
    }
    const RequestTicket ticket = harness_.Submit(request);
    harness_.Tick();
    Transcript& got = harness_.Of(ticket);
    got.Read();
    ASSERT_TRUE(got.end.has_value());
    const ErrorDetail detail = DetailOf(got.end->status);
    EXPECT_EQ(detail.reason, by_deadline ? reason::kDeadlineTooShort : reason::kQueueTimeExceeded);
    EXPECT_TRUE(detail.retry_after.has_value());
    EXPECT_EQ(got.end->session->etag, before->etag);
  }
}

TEST_P(EngineLoopAdmissionTest, ALongPromptDoesNotStallShortOnes) {
  harness_.Submit(LongTurn(Prompt(4000), "", 1));
  harness_.Tick();
  const RequestTicket brief = harness_.Submit(LongTurn(Prompt(6), "", 1));
  for (int i = 0; i < 4; ++i) harness_.Tick();
  harness_.Of(brief).Read();
  EXPECT_TRUE(harness_.Of(brief).end.has_value());
}

TEST_P(EngineLoopAdmissionTest, AHundredthTurnComputesWhatTheFirstDid) {
  std::vector<uint64_t> costs;
  for (int turn = 0; turn < 200; ++turn) {
    const uint64_t prompt = harness_.oracle().prompt_tokens();
    const uint64_t decode = harness_.oracle().decode_tokens();
    const uint64_t forwards = harness_.oracle().forwards();
    ASSERT_TRUE(harness_.Run(LongTurn(Prompt(10, turn), kSession, 8)).end->status.ok());
    EXPECT_EQ(harness_.oracle().prompt_tokens() - prompt, 10u);
    EXPECT_EQ(harness_.oracle().decode_tokens() - decode, 8u);
    costs.push_back(harness_.oracle().forwards() - forwards);
  }
  EXPECT_EQ(costs.front(), costs.back());
}

INSTANTIATE_TEST_SUITE_P(Ahead, EngineLoopAdmissionTest, kEveryAhead);

// 20 slots have four wide ones.
class NarrowStateTest : public EachAhead {
 protected:
  static HarnessOptions Options() {
    HarnessOptions options;
    options.engine.state_slots = 20;
    options.engine.prompt_tokens_per_pass = options.engine.prompt_tokens_per_pass_idle = 16;
    return options;
  }
  bool Ended(RequestTicket ticket) {
    harness_.Of(ticket).Read();
    return harness_.Of(ticket).end.has_value();
  }
  uint32_t WideUsed() {
    const WidePool& wide = harness_.loop.pool().wide();
    return wide.slots() - wide.free();
  }

  LoopHarness harness_{Options(),
                       std::make_shared<OracleModel>(ForwardLimits(), GetParam(), /*narrow=*/true)};
};

TEST_P(NarrowStateTest, PromptsTakeTurnsInWideSlotsAndAllAreRead) {
  std::vector<RequestTicket> tickets;
  std::vector<GenerationRequest> requests;
  for (uint32_t i = 0; i < 19; ++i) {
    requests.push_back(LongTurn(Prompt(10 + 7 * (i % 5), i), "", 3));
    tickets.push_back(harness_.Submit(requests.back()));
  }
  uint32_t used_most = 0;
  while (std::any_of(tickets.begin(), tickets.end(), [&](RequestTicket each) { return !Ended(each); })) {
    harness_.Tick();
    used_most = std::max(used_most, WideUsed());
  }
  for (size_t i = 0; i < tickets.size(); ++i)
    EXPECT_EQ(harness_.Of(tickets[i]).tokens[0], OracleRun(OracleState(), requests[i], 7).tokens);
  EXPECT_GE(used_most, 2u);
  EXPECT_EQ(WideUsed(), 0u);
}

TEST_P(NarrowStateTest, LongPromptsNeverKeepAShortOneWaiting) {
  std::vector<RequestTicket> long_ones;
  for (int i = 0; i < 10; ++i) long_ones.push_back(harness_.Submit(LongTurn(Prompt(4000), "", 2)));
  for (int i = 0; i < 5; ++i) harness_.Tick();
  const RequestTicket short_one = harness_.Submit(LongTurn(Prompt(6), "", 2));
  for (int i = 0; i < 4; ++i) harness_.Tick();
  EXPECT_TRUE(Ended(short_one));
  for (const RequestTicket ticket : long_ones) EXPECT_FALSE(Ended(ticket));
  for (const RequestTicket ticket : long_ones) harness_.Cancel(ticket);
  harness_.Settle();
  EXPECT_EQ(WideUsed(), 0u);
}

TEST_P(NarrowStateTest, ACancelledPromptGivesItsWideSlotBackAndLeavesTheSession) {
  ASSERT_TRUE(harness_.Create({.id = kSession}).ok());
  ASSERT_TRUE(harness_.Run(LongTurn(Prompt(5), kSession, 3)).end->status.ok());
  const OracleState before = harness_.StateOf(kSession);
  const RequestTicket ticket = harness_.Submit(LongTurn(Prompt(100), kSession));
  for (int i = 0; i < 3; ++i) harness_.Tick();
  EXPECT_EQ(WideUsed(), 1u);
  harness_.Cancel(ticket);
  harness_.Settle();
  EXPECT_EQ(WideUsed(), 0u);
  EXPECT_EQ(harness_.StateOf(kSession), before);
}

INSTANTIATE_TEST_SUITE_P(Ahead, NarrowStateTest, kEveryAhead);

}  // namespace
}  // namespace mambad
