// What the tests of the engine loop share: a loop on the oracle model with one session that has lived a turn.
#ifndef MAMBAD_TESTS_ENGINE_ENGINE_LOOP_FIXTURE_H_
#define MAMBAD_TESTS_ENGINE_ENGINE_LOOP_FIXTURE_H_

#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_run.h"

namespace mambad {
using Tokens = std::vector<uint32_t>;

inline constexpr char kSession[] = "s";

inline Tokens Prompt(uint32_t size, uint32_t first = 1) {
  Tokens prompt(size);
  for (uint32_t i = 0; i < size; ++i) prompt[i] = 1 + (first + i) % (OracleModel::kPoisonToken - 1);
  return prompt;
}

// A turn that never ends by itself before `output_tokens`.
inline GenerationRequest LongTurn(Tokens prompt, std::string session = kSession,
                                  uint32_t output_tokens = 1000) {
  GenerationRequest request = TokensRequest(std::move(prompt), output_tokens, std::move(session));
  request.stop.ignore_eos = true;
  return request;
}

// How the model runs ahead must not show.
using EachAhead = testing::TestWithParam<OracleModel::Ahead>;
inline const auto kEveryAhead =
    testing::Values(OracleModel::Ahead::kNo, OracleModel::Ahead::kEarly, OracleModel::Ahead::kLate);

// Tells the loop's wall clock that a step takes kStep, and a part of a pass with tokens kPart.
class TimedOracle : public OracleModel {
 public:
  static constexpr absl::Duration kStep = absl::Milliseconds(2), kPart = absl::Milliseconds(2);
  using OracleModel::OracleModel;
  absl::Status Forward(const Batch& batch, const StateView& state,
                       std::vector<LogitsResult>* results) override {
    now += kStep;
    return OracleModel::Forward(batch, state, results);
  }
  absl::Status Collect(std::vector<LogitsResult>* results) override {
    now += kStep;
    return OracleModel::Collect(results);
  }
  absl::Status ForwardParts(const Batch& batch, const StateView& state, uint32_t first, uint32_t last,
                            std::vector<LogitsResult>* results) override {
    most_parts = std::max(most_parts, last - first);
    began_at = first;
    if (!batch.prompt_tokens.empty()) now += kPart * (last - first);
    return OracleModel::ForwardParts(batch, state, first, last, results);
  }
  absl::Duration now;
  uint32_t most_parts = 0;  // of a tick
  uint32_t began_at = 0;    // the last tick's first part
};

// A harness with a session "s" that has lived one turn, and its state.
class EngineLoopTest : public EachAhead {
 protected:
  void SetUp() override {
    ASSERT_TRUE(harness_.Create({.id = kSession}).ok());
    const GenerationRequest request = LongTurn(Prompt(5), kSession, 3);
    ASSERT_TRUE(harness_.Run(request).end->status.ok());
    before_ = OracleRun(OracleState(), request, 7).FinalState();
    ASSERT_EQ(harness_.StateOf(kSession), before_);
  }

  // The session is idle at `state`, and its next turn gives what it must.
  void ExpectIdleAt(const OracleState& state) {
    const absl::StatusOr<SessionInfo> info = harness_.Get(kSession);
    ASSERT_TRUE(info.ok());
    EXPECT_EQ(info->state, SessionState::kIdle);
    EXPECT_EQ(info->position, state.position);
    EXPECT_EQ(harness_.StateOf(kSession), state);
    EXPECT_EQ(harness_.loop.pool().used(), 1u);
    const GenerationRequest next = LongTurn(Prompt(2, 50), kSession, 2);
    EXPECT_EQ(harness_.Run(next).tokens[0], OracleRun(state, next, 7).tokens);
  }

  static HarnessOptions SmallTicks() {
    HarnessOptions options;
    options.ahead = GetParam();
    options.engine.prompt_tokens_per_pass = 4;
    options.engine.prompt_tokens_per_pass_idle = 4;
    options.engine.stall_timeout = absl::Milliseconds(20);
    return options;
  }

  LoopHarness harness_{SmallTicks()};
  OracleState before_;
};

}  // namespace mambad

#endif  // MAMBAD_TESTS_ENGINE_ENGINE_LOOP_FIXTURE_H_
