// A short prompt alone is launched as a whole, in a bucket of tokens: the bits are those of the pass that is
// enqueued kernel by kernel.
#include <cstdint>
#include <cstring>
#include <vector>

#include "gtest/gtest.h"
#include "tests/model/cut_shape.h"
#include "tests/model/slot_pool.h"

namespace mambad {
namespace {

constexpr int32_t kSlots = 3, kSlot = 1;
constexpr unsigned char kPattern = 0x3c;  // of other slots; finite as fp32 and as bf16
constexpr int64_t kMostTokens = 640;
constexpr uint32_t kLengths[] = {1, 31, 32, 33, 64, 65, 127, 129, 300, 511, 512, 513};

struct Case {
  const char* name;
  CutShape shape;
};
void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class PromptGraphTest : public testing::TestWithParam<Case> {
 protected:
  // A chunk of `tokens` tokens in kSlot.
  Batch Chunk(uint32_t tokens) const {
    Batch batch;
    batch.chunk_offsets = {0, tokens};
    batch.chunk_slots = {kSlot};
    for (uint32_t i = 0; i < tokens; ++i) batch.prompt_tokens.push_back((5 + 11 * i) % CutShape::kVocab);
    if (model_->state_layout().narrow()) batch.chunk_wide = {{.slot = 0, .begins = true, .ends = true}};
    batch.logits.push_back({.source = LogitsSource::kPromptToken, .index = tokens - 1, .target = 9});
    return batch;
  }

  // A prompt of so many tokens, a turn of seven more, and one whose head runs apart: all that they leave.
  std::vector<std::byte> Run(SlotPool& pool, uint32_t tokens) {
    for (int32_t slot = 0; slot < kSlots; ++slot) pool.Fill(slot, kPattern);
    pool.Zero(kSlot);
    std::vector<std::byte> seen;
    std::vector<LogitsResult> results;
    const auto see = [&](const absl::Status& status) {
      EXPECT_TRUE(status.ok()) << status;
      EXPECT_TRUE(results.at(0).finite);
      seen.resize(seen.size() + sizeof(float));
      std::memcpy(seen.data() + seen.size() - sizeof(float), &results[0].target_logprob, sizeof(float));
    };
    see(model_->Forward(Chunk(tokens), pool.view(), &results));
    see(model_->Forward(Chunk(7), pool.view(), &results));
    const uint32_t parts = model_->parts();
    EXPECT_TRUE(model_->ForwardParts(Chunk(40), pool.view(), 0, parts - 1, &results).ok());
    see(model_->ForwardParts(Chunk(40), pool.view(), parts - 1, parts, &results));
    seen.insert(seen.end(), pool.all().begin(), pool.all().end());
    return seen;
  }

  const std::unique_ptr<MixerModel> model_ =
      MakeCutModel(GetParam().shape, {.decode_rows = 4, .prompt_tokens = kMostTokens});
};

TEST_P(PromptGraphTest, AGraphGivesTheBitsOfItsKernels) {
  if (!model_->why_not_fused().empty()) GTEST_SKIP() << model_->why_not_fused();
  SlotPool pool(model_->state_layout(), kSlots);
  std::vector<std::vector<std::byte>> wanted;
  for (const uint32_t tokens : kLengths) wanted.push_back(Run(pool, tokens));
  EXPECT_EQ(model_->prompt_replays(), 0);
  ASSERT_TRUE(model_->Prepare(pool.view()).ok());
  // Longer ones first: what they leave in the workspace lies behind the next one's tokens.
  for (size_t i = std::size(kLengths); i-- > 0;) {
    const int64_t before = model_->prompt_replays();
    EXPECT_TRUE(Run(pool, kLengths[i]) == wanted[i]) << kLengths[i] << " tokens";
    EXPECT_EQ(model_->prompt_replays() - before, kLengths[i] <= 512 ? 3 : 2) << kLengths[i] << " tokens";
  }
}

INSTANTIATE_TEST_SUITE_P(
    , PromptGraphTest,
    testing::Values(Case{"130m", {"mamba-130m", 3}}, Case{"1_4b", {"mamba-1.4b", 2}},
                    Case{"falcon", {"falcon-mamba-7b", 2}},
                    Case{"narrow",
                         {.name = "mamba-130m", .layers = 2, .state_dtype = kernels::DType::kBf16}}),
    [](const testing::TestParamInfo<Case>& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace mambad
