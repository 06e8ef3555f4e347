#include "engine/text/detokenizer.h"

#include <random>

#include "gtest/gtest.h"
#include "tests/text/golden.h"

namespace mambad {
namespace {

class DetokenizerTest : public testing::Test {
 protected:
  void SetUp() override {
    absl::StatusOr<std::unique_ptr<const Tokenizer>> tokenizer = Tokenizer::Load(golden::kNeoxPath);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    tokenizer_ = *std::move(tokenizer);
  }

  std::unique_ptr<const Tokenizer> tokenizer_;
};

TEST_F(DetokenizerTest, HoldsACodePointBackUntilItIsWhole) {
  const std::vector<uint32_t> ids = *tokenizer_->Encode("\U00011F04");
  ASSERT_EQ(ids.size(), 4u);
  Detokenizer detokenizer(tokenizer_.get(), true);
  for (int i = 0; i < 3; ++i) EXPECT_EQ(detokenizer.Append(ids[i]), "");
  EXPECT_EQ(detokenizer.held_bytes(), 3);
  EXPECT_EQ(detokenizer.Append(ids[3]), "\U00011F04");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST_F(DetokenizerTest, ReplacesWhatIsLeftIncomplete) {
  Detokenizer detokenizer(tokenizer_.get(), true);
  EXPECT_EQ(detokenizer.Append((*tokenizer_->Encode("\U00011F04"))[0]), "");
  EXPECT_EQ(detokenizer.Finish(), "\uFFFD");
  EXPECT_EQ(detokenizer.Finish(), "");
}

TEST_F(DetokenizerTest, AddsUpToTheDecodedTextForAnyIds) {
  std::mt19937 random(11);
  for (int round = 0; round < 3000; ++round) {
    std::vector<uint32_t> ids(random() % 40);
    for (uint32_t& id : ids) {
      // Half of them single bytes, so that code points are cut everywhere; some beyond the vocabulary.
      id = random() % 2 == 0 ? random() % 260 : random() % (tokenizer_->vocab_size() + 10);
    }
    const bool skip_special = round % 2 == 0;
    Detokenizer detokenizer(tokenizer_.get(), skip_special);
    std::string text;
    for (size_t i = 0; i < ids.size(); ++i) {
      Detokenizer fork = detokenizer;
      const std::string piece = detokenizer.Append(ids[i]);
      ASSERT_TRUE(IsValidUtf8(piece));
      ASSERT_EQ(fork.Append(ids[i]), piece);
      text += piece;
    }
    text += detokenizer.Finish();
    ASSERT_EQ(text, tokenizer_->Decode(ids, skip_special));
  }
}

}  // namespace
}  // namespace mambad
