#include "engine/text/split_pattern.h"

#include <string>

#include "engine/text/pre_tokenizer.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

std::vector<std::string> Matches(const absl::StatusOr<SplitPattern>& pattern, std::string_view text) {
  EXPECT_TRUE(pattern.ok()) << pattern.status();
  if (!pattern.ok()) return {};
  SplitPattern::Scratch scratch(*pattern);
  std::vector<Span> spans;
  const absl::Status status = pattern->FindAll(text, &scratch, &spans);
  EXPECT_TRUE(status.ok()) << status;
  std::vector<std::string> matches;
  for (const Span& span : spans) matches.emplace_back(text.substr(span.begin, span.end - span.begin));
  return matches;
}

using Strings = std::vector<std::string>;

TEST(SplitPatternTest, FindsMatchesLeftToRight) {
  EXPECT_EQ(Matches(SplitPattern::Regex(R"(\d+|\p{Lu})"), "aB12c\u0391\u0663"),
            (Strings{"B", "12", "\u0391", "\u0663"}));
  EXPECT_EQ(Matches(SplitPattern::Literal("aa"), "aaaaab"), (Strings{"aa", "aa"}));
}

// As Oniguruma's iterator: an empty match right after a match does not count.
TEST(SplitPatternTest, FindsEmptyMatchesOnce) {
  EXPECT_EQ(Matches(SplitPattern::Regex("[0-9]*"), "12a\u00e93"), (Strings{"12", "", "3"}));
  EXPECT_EQ(Matches(SplitPattern::Regex("[0-9]*"), ""), (Strings{""}));
}

TEST(SplitPatternTest, KnowsTheCategoriesOfUnicode15) {
  EXPECT_EQ(Matches(SplitPattern::Regex(R"(\p{L}+)"), " \U00011F04\u0cf3\U00031350a "), (Strings{"\U00011F04",
                                                                                                 "\U00031350"
                                                                                                 "a"}));
  EXPECT_EQ(Matches(SplitPattern::Regex(R"(\p{Nd}|\p{Mc})"), "\U0001E4F0\u0cf3"),
            (Strings{"\U0001E4F0", "\u0cf3"}));
  EXPECT_EQ(Matches(SplitPattern::Regex(R"(\s)"), "\u180e\u2003"), (Strings{"\u2003"}));
}

TEST(SplitPatternTest, EndsARunawayMatchWithAnError) {
  const absl::StatusOr<SplitPattern> pattern = SplitPattern::Regex("(?:a|aa)+(?=b)");
  ASSERT_TRUE(pattern.ok()) << pattern.status();
  SplitPattern::Scratch scratch(*pattern);
  std::vector<Span> spans;
  const absl::Status status = pattern->FindAll(std::string(200, 'a'), &scratch, &spans);
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST(SplitPatternTest, MatchesLongRunsWithoutAStackLimit) {
  const std::string text(500'000, 'a');
  EXPECT_EQ(Matches(SplitPattern::Regex("(?:a|bc)+"), text), (Strings{text}));
}

std::vector<std::string> Joined(SplitBehavior behavior) {
  // "a-bb--c": the dashes match one by one.
  const std::string text = "a-bb--c";
  const std::vector<MatchPiece> pieces = {{0, 1, false}, {1, 2, true}, {2, 4, false},
                                          {4, 5, true},  {5, 6, true}, {6, 7, false}};
  std::vector<std::string> result;
  for (const Span& span : ApplySplitBehavior(pieces, behavior)) {
    result.push_back(text.substr(span.begin, span.end - span.begin));
  }
  return result;
}

TEST(SplitPatternTest, JoinsPiecesAsTheBehaviorSays) {
  EXPECT_EQ(Joined(SplitBehavior::kRemoved), (Strings{"a", "bb", "c"}));
  EXPECT_EQ(Joined(SplitBehavior::kIsolated), (Strings{"a", "-", "bb", "-", "-", "c"}));
  EXPECT_EQ(Joined(SplitBehavior::kMergedWithPrevious), (Strings{"a-", "bb-", "-", "c"}));
  EXPECT_EQ(Joined(SplitBehavior::kMergedWithNext), (Strings{"a", "-bb", "-", "-c"}));
  EXPECT_EQ(Joined(SplitBehavior::kContiguous), (Strings{"a", "-", "bb", "--", "c"}));
}

}  // namespace
}  // namespace mambad
