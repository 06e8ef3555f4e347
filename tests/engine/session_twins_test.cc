// A session, its twin, and a fork taken before each turn give equal tokens and equal state bytes, whether 24
// other streams run beside them or none.
#include <gtest/gtest.h>

#include <random>

#include "tests/model/test_models.h"
#include "tests/support/loop_harness.h"

namespace mambad {
namespace {

constexpr int kNeighbours = 24;
constexpr int kAllCpus = 0;
constexpr auto kEarly = OracleModel::Ahead::kEarly, kLate = OracleModel::Ahead::kLate;

struct Case {
  const char* name;
  const char* model;  // a folder below the source tree; empty: the oracle
  int turns;
  StateDtype state_dtype = StateDtype::kF32;
  OracleModel::Ahead ahead = OracleModel::Ahead::kNo;  // of the oracle
};

class SessionTwinsTest : public testing::TestWithParam<Case> {
 protected:
  static std::shared_ptr<Model> NewModel() {
    if (std::string(GetParam().model).empty()) {
      return std::make_shared<OracleModel>(ForwardLimits(), GetParam().ahead,
                                           GetParam().state_dtype == StateDtype::kBf16);
    }
    return LoadTestModel(std::string(MAMBAD_SOURCE_DIR "/") + GetParam().model, Precision::kAuto,
                         {.decode_rows = 64, .prompt_tokens = 64}, kAllCpus, GetParam().state_dtype);
  }

  static HarnessOptions Options() {
    HarnessOptions options;
    options.engine.state_slots = 40;
    options.engine.sessions_max = 8;
    options.engine.decode_rows_max = 20;  // fewer than there are rows: they take turns
    options.engine.prompt_tokens_per_pass = 24;
    options.engine.prompt_tokens_per_pass_idle = 64;
    return options;
  }

  GenerationRequest AnyTurn(uint32_t vocab) {
    GenerationRequest turn;
    turn.prompt.resize(1 + random_() % 40);
    for (uint32_t& token : turn.prompt) token = 1 + static_cast<uint32_t>(random_() % (vocab - 2));
    turn.stop.max_output_tokens = static_cast<uint32_t>(1 + random_() % 20);
    turn.sampling.seed = random_();
    turn.sampling.temperature = 0.8f;
    return turn;
  }

  std::mt19937_64 random_{11};
};

TEST_P(SessionTwinsTest, TurnsAreEqualWithNeighboursAndAlone) {
  LoopHarness quiet(Options(), NewModel());
  LoopHarness busy(Options(), NewModel());
  const auto vocab = static_cast<uint32_t>(quiet.model->info().vocab_size);
  ASSERT_TRUE(quiet.Create({.id = "session"}).ok());
  ASSERT_TRUE(busy.Create({.id = "session"}).ok());
  ASSERT_TRUE(busy.Create({.id = "twin"}).ok());
  std::vector<RequestTicket> neighbours(kNeighbours, 0);
  uint64_t comparisons = 0;
  for (int turn = 0; turn < GetParam().turns; ++turn) {
    ASSERT_TRUE(busy.Fork({.source_id = "session", .id = "fork"}).ok());
    GenerationRequest request = AnyTurn(vocab);
    request.session_id = "session";
    const std::vector<uint32_t> expected = quiet.Run(request).tokens[0];

    std::vector<RequestTicket> tickets;
    for (const char* id : {"session", "twin", "fork"}) {
      request.session_id = id;
      tickets.push_back(busy.Submit(request));
    }
    const auto open = [&](RequestTicket ticket) {
      busy.Of(ticket).Read();
      return !busy.Of(ticket).end.has_value();
    };
    while (std::any_of(tickets.begin(), tickets.end(), open)) {
      for (RequestTicket& neighbour : neighbours) {
        if (neighbour == 0 || !open(neighbour)) neighbour = busy.Submit(AnyTurn(vocab));
      }
      busy.Tick();
    }
    for (const RequestTicket ticket : tickets) {
      EXPECT_TRUE(busy.Of(ticket).end->status.ok());
      EXPECT_EQ(busy.Of(ticket).tokens[0], expected);
    }
    const std::vector<std::byte> state = quiet.StateBytesOf("session");
    for (const char* id : {"session", "twin", "fork"}) {
      EXPECT_TRUE(busy.StateBytesOf(id) == state) << id << ", turn " << turn;
      ++comparisons;
    }
    ASSERT_TRUE(busy.Delete({.id = "fork"}).ok());
  }
  EXPECT_EQ(busy.Get("session")->position, quiet.Get("session")->position);
  EXPECT_EQ(comparisons, 3u * GetParam().turns);
}

INSTANTIATE_TEST_SUITE_P(
    Models, SessionTwinsTest,
    testing::Values(Case{"Oracle", "", 300}, Case{"OracleEarly", "", 300, StateDtype::kF32, kEarly},
                    Case{"OracleLate", "", 300, StateDtype::kF32, kLate},
                    Case{"NarrowOracle", "", 300, StateDtype::kBf16},
                    Case{"NarrowOracleEarly", "", 300, StateDtype::kBf16, kEarly},
                    Case{"NarrowOracleLate", "", 300, StateDtype::kBf16, kLate},
                    Case{"Tales", "deploy/models/mamba-tales", 8},
                    Case{"NarrowTales", "deploy/models/mamba-tales", 8, StateDtype::kBf16}),
    [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace mambad
