#include "server/commands/local_engine.h"

#include <fstream>
#include <variant>

#include "absl/time/clock.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "server/commands/run_times.h"

namespace mambad {
namespace {

using ::testing::ElementsAre;

TEST(LocalEngineTest, ParsesTokenIdsOfAFlagAndOfAFile) {
  EXPECT_THAT(*ParseTokens("1,2 , 3 4294967295"), ElementsAre(1, 2, 3, 4294967295U));
  EXPECT_THAT(*ParseTokens(""), ElementsAre());
  const std::string path = ::testing::TempDir() + "local_engine_test_tokens";
  std::ofstream(path) << "5,6 7\n8,\n9\n";
  EXPECT_THAT(*ParseTokens("@" + path), ElementsAre(5, 6, 7, 8, 9));
}

TEST(LocalEngineTest, RefusesAMissingTokenId) {
  for (const char* wrong : {"1,,2", "1, ,2", ",1", "1,", "1, ", ",", "1 2,"})
    EXPECT_EQ(ParseTokens(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
}

constexpr char kModel[] = MAMBAD_SOURCE_DIR "/deploy/models/mamba-tales";

// What a step ahead of its reader does beside him is no less part of the run.
TEST(LocalEngineTest, SecondsOfTicksAddUpToTheWholeRun) {
  const auto local = LocalEngine::Create({.model = kModel, .device = "cpu", .threads = 1}, /*slots=*/2);
  ASSERT_TRUE(local.ok()) << local.status();
  GenerationRequest request;
  request.prompt = {1, 2, 3};
  request.stop.max_output_tokens = 5;
  request.stop.ignore_eos = true;
  constexpr absl::Duration kReads = absl::Milliseconds(10);
  int deltas = 0;
  double seconds = 0;
  RunTimes times(request.prompt.size());
  const absl::Time start = absl::Now();
  ASSERT_TRUE((*local)
                  ->Run(
                      request,
                      [&](const TokenEvent& event) {
                        if (!std::holds_alternative<DeltaEvent>(event)) return;
                        ++deltas;
                        absl::SleepFor(kReads);
                      },
                      [&](const TickReport& report, double tick_s) {
                        seconds += tick_s;
                        times.Add(report.prompt_tokens, deltas > 0, tick_s);
                      })
                  .ok());
  const double whole = absl::ToDoubleSeconds(absl::Now() - start);
  ASSERT_EQ(deltas, 5);
  EXPECT_GE(seconds, 5 * absl::ToDoubleSeconds(kReads));
  EXPECT_LE(seconds, whole);
  EXPECT_GE(times.decode_s(), 4 * absl::ToDoubleSeconds(kReads));
  EXPECT_NEAR(times.prefill().seconds() + times.decode_s(), seconds, 1e-9);
}

TEST(RunTimesTest, PrefillLastsToTheFirstTokenAndDecodeFromThere) {
  RunTimes times(/*prompt_tokens=*/20);
  times.Add(16, false, 0.5);
  times.Add(0, false, 0.25);  // nothing of the prompt was read
  times.Add(4, true, 1);
  times.Add(0, true, 2);
  times.Add(3, true, 4);  // whatever a tick says
  EXPECT_DOUBLE_EQ(times.prefill().seconds(), 1.75);
  EXPECT_DOUBLE_EQ(times.decode_s(), 6);
  double tenths = 0;
  for (const double tenth : times.prefill().tenths()) tenths += tenth;
  EXPECT_DOUBLE_EQ(tenths, 1.75);
  EXPECT_DOUBLE_EQ(times.prefill().tenths()[9], 0.625);
}

}  // namespace
}  // namespace mambad
