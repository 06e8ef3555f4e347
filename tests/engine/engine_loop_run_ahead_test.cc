// What run-ahead must not change, on an oracle that launches a step before the host has seen the one before.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <random>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "engine/engine.h"
#include "engine/text/tokenizer.h"
#include "tests/engine/engine_loop_fixture.h"

namespace mambad {
namespace {

using Ahead = OracleModel::Ahead;

HarnessOptions Options(Ahead ahead) {
  HarnessOptions options;
  options.ahead = ahead;
  return options;
}

class EngineLoopRunAheadTest : public testing::TestWithParam<Ahead> {};

TEST_P(EngineLoopRunAheadTest, ADrainsDeadlineEndsRowsThatRunAhead) {
  LoopHarness harness(Options(GetParam()));
  const RequestTicket ticket = harness.Submit(LongTurn(Prompt(3), ""));
  for (int i = 0; i < 6; ++i) harness.Tick();
  int drained = 0;
  harness.ledger.SetDraining();
  harness.mailbox.PostDrain({harness.now() + absl::Milliseconds(30), [&] { ++drained; }});
  for (int i = 0; i < 40; ++i) harness.Tick();
  harness.Of(ticket).Read();
  EXPECT_EQ(drained, 1);
  EXPECT_TRUE(harness.Of(ticket).end.has_value());
}

TEST_P(EngineLoopRunAheadTest, AQueuedRequestStartsWhenASlotFreesBesideRowsThatRunAhead) {
  LoopHarness harness(Options(GetParam()));
  for (int i = 0; i < 7; ++i) harness.Submit(LongTurn(Prompt(2), ""));
  harness.Submit(LongTurn(Prompt(2), "", 20));
  for (int i = 0; i < 6; ++i) harness.Tick();
  const RequestTicket queued = harness.Submit(LongTurn(Prompt(2), "", 5));
  for (int i = 0; i < 60; ++i) harness.Tick();
  harness.Of(queued).Read();
  EXPECT_TRUE(harness.Of(queued).end.has_value());
}

TEST_P(EngineLoopRunAheadTest, RowsBeyondDecodeRowsMaxTakeTurns) {
  HarnessOptions options = Options(GetParam());
  options.engine.decode_rows_max = 1;
  LoopHarness harness(options);
  const RequestTicket a = harness.Submit(LongTurn(Prompt(2), "")),
                      b = harness.Submit(LongTurn(Prompt(2), ""));
  for (int i = 0; i < 60; ++i) harness.Tick();
  for (const RequestTicket ticket : {a, b}) {
    harness.Of(ticket).Read();
    EXPECT_GT(harness.Of(ticket).tokens[0].size(), 20u);
  }
}

// The harness has a rule of its own for the room of a sink; this is Engine::Submit's.
TEST_P(EngineLoopRunAheadTest, SubmitMakesRoomForTwoStepsOfManyCandidates) {
  auto engine = Engine::Create(std::make_shared<OracleModel>(ForwardLimits(), GetParam()), nullptr,
                               {.state_slots = 128, .seed = 1});
  ASSERT_TRUE(engine.ok());
  GenerationRequest request = LongTurn(Prompt(3), "", 8);
  request.candidate_count = 100;
  const auto sink = std::make_shared<TokenSink>(128, nullptr);
  ASSERT_TRUE((*engine)->Submit(request, sink).ok());
  Transcript transcript(sink);
  for (int i = 1; i < 30; ++i) {
    (*engine)->Tick(absl::FromUnixSeconds(1000 + i));
    transcript.Read();
  }
  EXPECT_TRUE(transcript.end.has_value());
}

class CountingOracle final : public OracleModel {
 public:
  using OracleModel::OracleModel;
  absl::Status Launch(const Batch& batch, const StateView& states) override {
    ++under_way;
    return OracleModel::Launch(batch, states);
  }
  absl::Status Collect(std::vector<LogitsResult>* results) override {
    --under_way;
    return OracleModel::Collect(results);
  }
  int under_way = 0;
};

TEST_P(EngineLoopRunAheadTest, StopLeavesNoStepUnderWay) {
  const auto model = std::make_shared<CountingOracle>(ForwardLimits(), GetParam());
  {
    LoopHarness harness(Options(GetParam()), model);
    harness.Submit(LongTurn(Prompt(2), ""));
    for (int i = 0; i < 6; ++i) harness.Tick();
    harness.loop.Stop(harness.now());
    EXPECT_EQ(model->under_way, 0);
    EXPECT_TRUE(absl::IsNotFound(harness.loop.ReadState("s").status()));
  }
  EXPECT_EQ(model->under_way, 0);
}

TEST_P(EngineLoopRunAheadTest, ALostDeviceIsNotCalledAgain) {
  LoopHarness harness(Options(GetParam()));
  const RequestTicket ticket = harness.Submit(LongTurn(Prompt(2), ""));
  for (int i = 0; i < 6; ++i) harness.Tick();
  harness.oracle().FailAfter(0);
  harness.Tick();
  const uint64_t forwards = harness.oracle().forwards();
  harness.oracle().FailAfter(std::nullopt);
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(harness.Tick().idle);
  EXPECT_EQ(harness.oracle().forwards(), forwards);
  harness.Of(ticket).Read();
  EXPECT_TRUE(absl::IsInternal(harness.Of(ticket).end->status));
}

std::unique_ptr<Engine> NewEngine(std::shared_ptr<Model> model) {
  return Engine::Create(std::move(model), nullptr, {.state_slots = 8, .seed = 1}).value();
}

// It came back: too late.
TEST_P(EngineLoopRunAheadTest, ADeviceThatWasGivenUpIsNotCalledAgain) {
  const auto model = std::make_shared<OracleModel>(ForwardLimits(), GetParam());
  const auto engine = NewEngine(model);
  const auto sink = std::make_shared<TokenSink>(100, nullptr);
  ASSERT_TRUE(engine->Submit(LongTurn(Prompt(3), ""), sink).ok());
  absl::Time now = absl::FromUnixSeconds(1000);
  for (int i = 0; i < 6; ++i) engine->Tick(now += absl::Milliseconds(1));
  EXPECT_EQ(engine->Stats().state_slots_used, 1u);
  engine->LoseDevice();
  const uint64_t forwards = model->forwards();
  for (int i = 0; i < 3; ++i) EXPECT_TRUE(engine->Tick(now += absl::Milliseconds(1)).idle);
  EXPECT_EQ(model->forwards(), forwards);
  EXPECT_EQ(engine->Stats().state_slots_used, 0u);
}

TEST_P(EngineLoopRunAheadTest, AnEndedRequestLivesAsLongAsAStepThatHasARowOfIt) {
  const auto engine = NewEngine(std::make_shared<OracleModel>(ForwardLimits(), GetParam()));
  GenerationRequest request = TokensRequest(Prompt(3), 1000);
  for (uint32_t id = 0; id < OracleModel::kPoisonToken; id += 3) request.stop.stop_token_ids.push_back(id);
  request.stop.min_output_tokens = 5;
  const auto sink = std::make_shared<TokenSink>(100, nullptr);
  ASSERT_TRUE(engine->Submit(request, sink).ok());
  absl::Time now = absl::FromUnixSeconds(1000);
  for (bool ended = false; !ended;) {
    engine->Tick(now += absl::Milliseconds(1));
    while (const std::optional<TokenEvent> event = sink->Pop())
      ended |= std::holds_alternative<EndEvent>(*event);
  }
  // The device retires the row of the stop; the step that has it is still under way.
  EXPECT_EQ(sink.use_count(), GetParam() == Ahead::kNo ? 1 : 2);
  engine->Tick(now += absl::Milliseconds(1));
  EXPECT_EQ(sink.use_count(), 1);
}

// A step that is launched behind another one begins when that one ends.
TEST_P(EngineLoopRunAheadTest, TheTimesOfStepsDoNotOverlap) {
  const auto model = std::make_shared<TimedOracle>(ForwardLimits(), GetParam());
  LoopHarness harness(Options(GetParam()), model);
  harness.loop.UseWallClock([&] { return model->now; });
  harness.Submit(LongTurn(Prompt(2), ""));
  for (int i = 0; i < 12; ++i) harness.Tick();
  const double whole = absl::ToDoubleSeconds(model->now);
  const EngineStats stats = harness.ledger.Stats();
  EXPECT_GE(stats.tick_decode.count, 10u);
  EXPECT_LE(stats.tick_decode.sum, whole);
}

// Each row that a step advances gives a token, the first of a request comes from its prompt; a row whose
// request had ended when its step was collected is nobody's.
TEST_P(EngineLoopRunAheadTest, CountsTheRowsThatAStepAdvancedAndNoOthers) {
  LoopHarness harness(Options(GetParam()));
  GenerationRequest stops = TokensRequest(Prompt(4), 1000);
  for (uint32_t id = 0; id < OracleModel::kPoisonToken; id += 3) stops.stop.stop_token_ids.push_back(id);
  stops.stop.min_output_tokens = 3;
  GenerationRequest many = LongTurn(Prompt(3), "", 6);
  many.candidate_count = 3;
  std::vector<RequestTicket> tickets = {harness.Submit(stops), harness.Submit(many),
                                        harness.Submit(LongTurn(Prompt(2), "", 9)),
                                        harness.Submit(LongTurn(Prompt(2), ""))};
  uint64_t rows = 0;
  for (int tick = 0; tick < 40; ++tick) {
    if (tick == 20) harness.Cancel(tickets.back());
    rows += harness.Tick().decode_rows;
  }
  uint64_t tokens = 0;
  for (const RequestTicket ticket : tickets) {
    Transcript& transcript = harness.Of(ticket);
    transcript.Read();
    EXPECT_TRUE(transcript.end.has_value());
    for (const auto& [candidate, drawn] : transcript.tokens) tokens += drawn.size() - 1;
  }
  EXPECT_EQ(rows, tokens);
  const EngineStats stats = harness.ledger.Stats();
  EXPECT_EQ(stats.batch_rows.sum, static_cast<double>(tokens));
  EXPECT_LE(stats.batch_rows.count, tokens);
}

// A cancelled turn's last row consumes its token and draws nothing.
TEST_P(EngineLoopRunAheadTest, CountsTheRowThatClosesATurn) {
  LoopHarness harness(Options(GetParam()));
  ASSERT_TRUE(harness.Create({.id = "s"}).ok());
  const RequestTicket ticket = harness.Submit(LongTurn(Prompt(3), "s"));
  for (int tick = 0; tick < 8; ++tick) harness.Tick();
  harness.Cancel(ticket);
  harness.Settle();
  harness.Of(ticket).Read();
  const EngineStats stats = harness.ledger.Stats();
  EXPECT_EQ(stats.batch_rows.sum, static_cast<double>(harness.Of(ticket).tokens[0].size()));
  EXPECT_EQ(stats.batch_rows.buckets[0], stats.batch_rows.count);
}

INSTANTIATE_TEST_SUITE_P(, EngineLoopRunAheadTest, kEveryAhead);

// ---- A turn with any parameters, stop strings too.

const Tokenizer* TalesTokenizer() {
  static const Tokenizer* const tokenizer =
      Tokenizer::Load(MAMBAD_SOURCE_DIR "/deploy/models/mamba-tales/tokenizer.json")->release();
  return tokenizer;
}

GenerationRequest AnyRequest(std::mt19937_64& random) {
  const auto below = [&](int n) { return static_cast<int>(random() % n); };
  GenerationRequest request;
  request.prompt.resize(1 + below(12));
  for (uint32_t& token : request.prompt) token = 1 + below(98);
  request.session_id = "s";
  request.sampling.seed = random();
  request.sampling.temperature = below(4) > 0 ? 1.0f : 0.0f;
  if (below(3) == 0) request.sampling.presence_penalty = 0.5f;
  if (below(3) == 0) request.sampling.frequency_penalty = 0.25f;
  if (below(3) == 0) request.sampling.repetition_penalty = 1.5f;
  if (below(3) == 0) request.sampling.logit_bias = {{7, 3.0f}, {9, -4.0f}};
  request.stop.max_output_tokens = 1 + below(below(5) > 0 ? 60 : 2);
  request.stop.min_output_tokens = below(3) > 0 ? 0 : below(request.stop.max_output_tokens + 1);
  request.stop.ignore_eos = below(3) == 0;
  request.stop.consume_stop_token = below(2) == 0;
  request.stop.include_stop_sequence = below(2) == 0;
  if (below(2) == 0) request.stop.stop_token_ids = {5, 17, 63};
  request.output.logprobs = below(2) > 0;
  return request;
}

struct Turn {
  std::vector<uint32_t> tokens;
  std::string text;
  std::vector<float> logprobs;
  std::optional<FinishedEvent> finished;
  OracleState state;
};

// The second of two turns of a session.
Turn SecondTurn(const GenerationRequest& first, const GenerationRequest& second, Ahead ahead) {
  HarnessOptions options = Options(ahead);
  options.tokenizer = TalesTokenizer();
  LoopHarness harness(options);
  EXPECT_TRUE(harness.Create({.id = "s"}).ok());
  EXPECT_TRUE(harness.Run(first).end->status.ok());
  Transcript& transcript = harness.Run(second);
  EXPECT_TRUE(transcript.end->status.ok()) << transcript.end->status;
  Turn turn{.tokens = transcript.tokens[0], .text = transcript.text[0], .state = harness.StateOf("s")};
  for (const TokenLogprob& logprob : transcript.logprobs[0]) turn.logprobs.push_back(logprob.logprob);
  if (transcript.finished.count(0) > 0) turn.finished = transcript.finished.at(0);
  return turn;
}

void ExpectSame(const Turn& want, const Turn& got) {
  EXPECT_EQ(got.tokens, want.tokens);
  EXPECT_EQ(got.text, want.text);
  EXPECT_EQ(got.logprobs, want.logprobs);
  EXPECT_EQ(got.state, want.state);
  ASSERT_TRUE(want.finished.has_value() && got.finished.has_value());
  EXPECT_EQ(got.finished->reason, want.finished->reason);
  EXPECT_EQ(got.finished->matched_stop, want.finished->matched_stop);
  EXPECT_EQ(got.finished->usage.session_position, want.finished->usage.session_position);
  EXPECT_EQ(got.finished->usage.output_tokens, want.finished->usage.output_tokens);
}

TEST(EngineLoopRunAheadTwinsTest, ATurnIsThatOfALoopThatWaitsForEachToken) {
  int stopped_by_text = 0;
  for (uint64_t seed = 1; seed <= 200; ++seed) {
    SCOPED_TRACE(testing::Message() << "seed " << seed);
    std::mt19937_64 random(seed);
    const GenerationRequest first = AnyRequest(random);
    GenerationRequest second = AnyRequest(random);
    if (random() % 2 == 0) {  // a piece of what it says without a stop string
      const std::string text = SecondTurn(first, second, Ahead::kNo).text;
      const size_t at = text.empty() ? 0 : random() % text.size();
      const std::string piece = text.substr(at, 1 + random() % 4);
      const bool is_ascii = std::ranges::all_of(piece, [](char c) { return c >= ' ' && c <= '~'; });
      if (!piece.empty() && is_ascii) second.stop.stop_sequences = {piece};
    }
    const Turn want = SecondTurn(first, second, Ahead::kNo);
    stopped_by_text += want.finished.has_value() && want.finished->reason == FinishReason::kStopSequence;
    for (const Ahead ahead : {Ahead::kEarly, Ahead::kLate})
      ExpectSame(want, SecondTurn(first, second, ahead));
    if (HasFailure()) return;
  }
  EXPECT_GT(stopped_by_text, 10);
}

}  // namespace
}  // namespace mambad
