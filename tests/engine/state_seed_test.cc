// The seed that a bf16 state is rounded with: given to a session when it begins, and in its state from then
// on.
#include <gtest/gtest.h>

#include <cstring>

#include "engine/error.h"
#include "kernels/base/slots.h"
#include "tests/model/test_models.h"
#include "tests/support/loop_harness.h"

namespace mambad {
namespace {

using Bytes = std::vector<std::byte>;

constexpr uint64_t kSeed = 0x123456789abcdef0;
constexpr uint32_t kOutputTokens = 9;
constexpr int kThreads = 2;
const std::vector<uint32_t> kPrompt(40, 45);

class StateSeedTest : public testing::Test {
 protected:
  static std::shared_ptr<Model> NewModel() {
    return LoadTestModel(TestDataPath("models/tiny-mamba"), Precision::kAuto,
                         {.decode_rows = 8, .prompt_tokens = 64}, kThreads, StateDtype::kBf16);
  }
  // A tick reads less than the prompt.
  static HarnessOptions Options() {
    HarnessOptions options;
    options.engine.prompt_tokens_per_pass = 4;
    options.engine.prompt_tokens_per_pass_idle = 4;
    return options;
  }
  static GenerationRequest Turn(const std::string& session) {
    GenerationRequest turn = TokensRequest(kPrompt, kOutputTokens, session);
    turn.sampling.temperature = 0;
    turn.stop.ignore_eos = true;
    return turn;
  }
  void Create(const std::string& id, uint64_t seed) {
    ASSERT_TRUE(harness_.Create({.id = id, .state_seed = seed}).ok());
  }
  kernels::RoundingKey KeyOf(const std::string& id) {
    kernels::RoundingKey key;
    std::memcpy(&key, harness_.StateBytesOf(id).data(), sizeof(key));
    return key;
  }

  LoopHarness harness_{Options(), NewModel()};
};

TEST_F(StateSeedTest, TheSeedStaysInTheStateWhereThePositionGrows) {
  Create("a", kSeed);
  EXPECT_EQ(harness_.Get("a")->state_seed, kSeed);
  EXPECT_EQ(KeyOf("a").seed, kSeed);
  EXPECT_EQ(KeyOf("a").position, 0u);
  ASSERT_TRUE(harness_.Run(Turn("a")).end->status.ok());
  EXPECT_EQ(KeyOf("a").seed, kSeed);
  EXPECT_EQ(KeyOf("a").position, kPrompt.size() + kOutputTokens);
}

TEST_F(StateSeedTest, EqualSeedsGiveEqualStatesAndOthersDoNot) {
  Create("a", kSeed);
  Create("b", kSeed);
  Create("c", kSeed + 1);
  Create("default", 0);
  for (const char* id : {"a", "b", "c", "default"}) ASSERT_TRUE(harness_.Run(Turn(id)).end->status.ok());
  EXPECT_TRUE(harness_.StateBytesOf("a") == harness_.StateBytesOf("b"));
  EXPECT_EQ(KeyOf("default").seed, 0u);
  const Bytes a = harness_.StateBytesOf("a"), c = harness_.StateBytesOf("c");
  EXPECT_NE(std::memcmp(a.data() + sizeof(kernels::RoundingKey), c.data() + sizeof(kernels::RoundingKey),
                        a.size() - sizeof(kernels::RoundingKey)),
            0);
}

TEST_F(StateSeedTest, AForkSharesTheSeedOfItsSource) {
  Create("a", kSeed);
  ASSERT_TRUE(harness_.Run(Turn("a")).end->status.ok());
  EXPECT_EQ(harness_.Fork({.source_id = "a", .id = "fork"})->state_seed, kSeed);
  EXPECT_TRUE(harness_.StateBytesOf("fork") == harness_.StateBytesOf("a"));
  for (const char* id : {"a", "fork"}) ASSERT_TRUE(harness_.Run(Turn(id)).end->status.ok());
  EXPECT_TRUE(harness_.StateBytesOf("fork") == harness_.StateBytesOf("a"));
}

TEST_F(StateSeedTest, AForkOfAFirstTurnInItsPromptBeginsWithTheSeed) {
  Create("a", kSeed);
  const RequestTicket running = harness_.Submit(Turn("a"));
  harness_.Tick();
  ASSERT_EQ(harness_.Get("a")->state, SessionState::kPrefilling);
  ASSERT_TRUE(harness_.Fork({.source_id = "a", .id = "fork"}).ok());
  EXPECT_EQ(KeyOf("fork").seed, kSeed);
  EXPECT_EQ(KeyOf("fork").position, 0u);
  harness_.Settle();
  harness_.Of(running).Read();
  ASSERT_TRUE(harness_.Run(Turn("fork")).end->status.ok());
  EXPECT_TRUE(harness_.StateBytesOf("fork") == harness_.StateBytesOf("a"));
}

TEST_F(StateSeedTest, AFirstTurnThatIsUndoneLeavesTheSeed) {
  Create("a", kSeed);
  const Bytes before = harness_.StateBytesOf("a");
  const RequestTicket running = harness_.Submit(Turn("a"));
  harness_.Tick();
  ASSERT_EQ(harness_.Get("a")->state, SessionState::kPrefilling);
  harness_.Cancel(running);
  harness_.Settle();
  EXPECT_TRUE(harness_.StateBytesOf("a") == before);
}

}  // namespace
}  // namespace mambad
