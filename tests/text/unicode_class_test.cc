#include "engine/text/unicode_class.h"

#include "engine/text/gpt2_pattern.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

TEST(UnicodeClassTest, TellsLettersNumbersSpacesApart) {
  for (const char32_t c : {U'a', U'Z', U'\u00e9', U'\u02b0', U'\u65e5', U'\U00011F04'}) {
    EXPECT_EQ(SplitClassOf(c), SplitClass::kLetter) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {U'0', U'\u0663', U'\u00bd', U'\u2167', U'\U0001D7CE'}) {
    EXPECT_EQ(SplitClassOf(c), SplitClass::kNumber) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {U' ', U'\t', U'\v', U'\u0085', U'\u00a0', U'\u2028', U'\u3000'}) {
    EXPECT_EQ(SplitClassOf(c), SplitClass::kSpace) << static_cast<uint32_t>(c);
  }
  for (const char32_t c : {U'\0', U'\x1c', U'_', U'\u0301', U'\u180e', U'\u200b', U'\u200d', U'\U0001F642'}) {
    EXPECT_EQ(SplitClassOf(c), SplitClass::kOther) << static_cast<uint32_t>(c);
  }
}

std::vector<std::string> Words(std::string_view text) {
  std::vector<std::string> words;
  for (size_t at = 0; at < text.size();) {
    const size_t end = Gpt2MatchEnd(text, at);
    words.emplace_back(text.substr(at, end - at));
    at = end;
  }
  return words;
}

using Strings = std::vector<std::string>;

TEST(Gpt2PatternTest, SplitsWordsNumbersAndTheRest) {
  EXPECT_EQ(Words("It's 42km/h, don'T!"),
            (Strings{"It", "'s", " 42", "km", "/", "h", ",", " don", "'", "T", "!"}));
  EXPECT_EQ(Words("''re'll' s"), (Strings{"''", "re", "'ll", "'", " s"}));
}

TEST(Gpt2PatternTest, LeavesTheLastSpaceToTheWord) {
  EXPECT_EQ(Words("a   b"), (Strings{"a", "  ", " b"}));
  EXPECT_EQ(Words("a \n\tb"), (Strings{"a", " \n", "\t", "b"}));
  EXPECT_EQ(Words("a\nb  "), (Strings{"a", "\n", "b", "  "}));
  EXPECT_EQ(Words(" \u00a0x"), (Strings{" ", "\u00a0", "x"}));
}

}  // namespace
}  // namespace mambad
