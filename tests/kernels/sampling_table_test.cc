#include "kernels/sampling/sampling_table.h"

#include <bit>
#include <cstdint>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/sampling/logit_adjust.h"
#include "kernels/sampling/sampling_table_writer.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kRows = 4;
constexpr std::int64_t kEntries = 10;

class SamplingTableTest : public ::testing::Test {
 protected:
  std::vector<std::uint64_t> block_ =
      std::vector<std::uint64_t>((SamplingTable::Bytes(kRows, kEntries) + 7) / 8, ~std::uint64_t{0});
  SamplingTable table_ = SamplingTable::In(block_.data(), kRows);
  SamplingTableWriter writer_{table_, kRows, kEntries};
};

TEST_F(SamplingTableTest, HoldsTheParametersAndListsOfEveryRow) {
  const SamplingParams params = {
      .temperature = 0.7f, .top_p = 0.9f, .top_k = 5, .top_logprobs = 3, .logprob = true};
  const SamplingKey key = {.seed = 11, .token_index = 12, .candidate = 13};
  const std::vector<LogitBias> bias = {{4, -2.5f}, {6, 1.0f}};
  const std::vector<TokenCount> counts = {{8, 0}, {9, 3}, {1, 1}};
  const std::vector<std::int32_t> suppressed = {0};
  writer_.Add({params, key, {}, {}, {}});
  writer_.Add({params, key, bias, counts, suppressed, 7, true});
  EXPECT_EQ(writer_.rows(), 2);
  EXPECT_EQ(writer_.entries(), 6);

  const SamplingRow& empty = table_.rows[0];
  EXPECT_EQ(empty.token_slot, kNoTokenSlot);
  EXPECT_EQ(empty.count_previous, 0);
  EXPECT_EQ(empty.bias_begin, empty.list_end);

  const SamplingRow& row = table_.rows[1];
  EXPECT_EQ(row.seed, 11u);
  EXPECT_EQ(row.token_index, 12u);
  EXPECT_EQ(row.candidate, 13u);
  EXPECT_EQ(row.temperature, 0.7f);
  EXPECT_EQ(row.top_p, 0.9f);
  EXPECT_EQ(row.top_k, 5);
  EXPECT_EQ(row.top_logprobs, 3);
  EXPECT_EQ(row.logprob, 1);
  EXPECT_EQ(row.token_slot, 7);
  EXPECT_EQ(row.count_previous, 1);
  ASSERT_EQ(row.counts_begin - row.bias_begin, 2);
  ASSERT_EQ(row.suppressed_begin - row.counts_begin, 3);
  ASSERT_EQ(row.list_end - row.suppressed_begin, 1);
  EXPECT_EQ(table_.entries[row.bias_begin].token, 4);
  EXPECT_EQ(std::bit_cast<float>(table_.entries[row.bias_begin].value), -2.5f);
  EXPECT_EQ(table_.entries[row.counts_begin + 1].token, 9);
  EXPECT_EQ(table_.entries[row.counts_begin + 1].value, 3);
  EXPECT_EQ(table_.entries[row.suppressed_begin].token, 0);
}

TEST_F(SamplingTableTest, KnowsWhatFits) {
  EXPECT_TRUE(writer_.HasRoomFor(kEntries));
  EXPECT_FALSE(writer_.HasRoomFor(kEntries + 1));
  for (std::int64_t r = 0; r < kRows; ++r) writer_.Add({SamplingParams{}, SamplingKey{}, {}, {}, {}});
  EXPECT_FALSE(writer_.HasRoomFor(0));
}

TEST(LogitAdjustTest, PenaltiesKeepALogitFinite) {
  constexpr float kHuge = 0x1.fffffep+127f;
  EXPECT_EQ((Penalties{1e-30f, 0, 0}.Apply(kHuge, 0)), kHuge);
  EXPECT_EQ((Penalties{10.0f, 0, 0}.Apply(-kHuge, 0)), -kHuge);
  EXPECT_EQ((Penalties{2.0f, 0.5f, 0.25f}.Apply(4.0f, 0)), 2.0f);
  EXPECT_EQ((Penalties{2.0f, 0.5f, 0.25f}.Apply(4.0f, 2)), 1.0f);
  EXPECT_EQ((Penalties{2.0f, 0.5f, 0.25f}.Apply(-4.0f, 1)), -8.75f);
  EXPECT_EQ(Biased(kHuge, kHuge), kHuge);
}

}  // namespace
}  // namespace mambad::kernels
