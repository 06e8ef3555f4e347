#include "engine/text/stop_matcher.h"

#include <random>

#include "engine/text/utf8.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

using testing::HasSubstr;

StopMatcher Make(std::vector<std::string> stops, bool include_stop = false) {
  absl::StatusOr<StopMatcher> matcher = StopMatcher::Create(std::move(stops), include_stop);
  EXPECT_TRUE(matcher.ok()) << matcher.status();
  return matcher.ok() ? *std::move(matcher) : StopMatcher();
}

TEST(StopMatcherTest, HoldsBackWhatMayBecomeAStopString) {
  StopMatcher matcher = Make({"STOP"});
  EXPECT_EQ(matcher.Push("one ST").text, "one ");
  EXPECT_EQ(matcher.held_bytes(), 2u);
  EXPECT_EQ(matcher.Push("AR ").text, "STAR ");
  EXPECT_EQ(matcher.Push("SSTO").text, "S");
  const StopMatcher::Result result = matcher.Push("P and more");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.matched_index, 0u);
  EXPECT_TRUE(matcher.matched());
  EXPECT_EQ(matcher.Push("more").text, "");
  EXPECT_EQ(matcher.Flush(), "");
}

TEST(StopMatcherTest, GivesTheHeldTextAtTheEnd) {
  StopMatcher matcher = Make({"\n\n"});
  EXPECT_EQ(matcher.Push("line\n").text, "line");
  EXPECT_EQ(matcher.Flush(), "\n");
  EXPECT_EQ(matcher.Push("\nnext").text, "\nnext");
}

TEST(StopMatcherTest, IncludesTheStopStringIfAsked) {
  StopMatcher matcher = Make({"a", "END"}, true);
  const StopMatcher::Result result = matcher.Push("the END.");
  EXPECT_EQ(result.text, "the END");
  EXPECT_EQ(result.matched_index, 1u);
}

TEST(StopMatcherTest, TakesTheLongestOfThoseThatEndTogether) {
  StopMatcher matcher = Make({"king", "the king", "the king"});
  const StopMatcher::Result result = matcher.Push("see the kings");
  EXPECT_EQ(result.text, "see ");
  EXPECT_EQ(result.matched_index, 1u);
}

TEST(StopMatcherTest, TakesTheFirstThatIsComplete) {
  StopMatcher matcher = Make({"abc", "b"});
  const StopMatcher::Result result = matcher.Push("abc");
  EXPECT_EQ(result.text, "a");
  EXPECT_EQ(result.matched_index, 1u);
}

TEST(StopMatcherTest, CompletesAStopStringThatBeginsInUnmatchedText) {
  StopMatcher matcher = Make({"abab"});
  EXPECT_EQ(matcher.PushUnmatched("x ab"), "x ");
  const StopMatcher::Result result = matcher.Push("ab.");
  EXPECT_EQ(result.text, "");
  EXPECT_EQ(result.matched_index, 0u);
}

TEST(StopMatcherTest, LetsOutAStopStringThatIsCompleteInUnmatchedText) {
  StopMatcher matcher = Make({"abab"});
  EXPECT_EQ(matcher.PushUnmatched("xabab"), "xab");  // its end may begin another one
  EXPECT_FALSE(matcher.matched());
  EXPECT_EQ(matcher.Push("c").text, "abc");
  EXPECT_EQ(matcher.PushUnmatched("abab"), "ab");
  EXPECT_EQ(matcher.Push("ab").matched_index, 0u);
}

TEST(StopMatcherTest, WithoutStopStringsGivesEverythingBack) {
  StopMatcher matcher;
  const StopMatcher::Result result = matcher.Push("anything");
  EXPECT_EQ(result.text, "anything");
  EXPECT_FALSE(result.matched_index.has_value());
}

TEST(StopMatcherTest, RefusesBadStopStringsByName) {
  const auto message = [](std::vector<std::string> stops) {
    return std::string(StopMatcher::Create(std::move(stops), false).status().message());
  };
  EXPECT_THAT(message(std::vector<std::string>(17, "x")), HasSubstr("stop_sequences: at most 16"));
  EXPECT_THAT(message({"x", ""}), HasSubstr("stop_sequences[1]: must have 1 to 256 bytes, not 0"));
  EXPECT_THAT(message({std::string(257, 'x')}),
              HasSubstr("stop_sequences[0]: must have 1 to 256 bytes, not 257"));
  EXPECT_THAT(message({"\xFF"}), HasSubstr("stop_sequences[0]: is not valid UTF-8"));
  EXPECT_TRUE(StopMatcher::Create(std::vector<std::string>(16, std::string(256, 'x')), false).ok());
}

// What the matcher promises, in the plainest words: look after every byte, from the first that may complete a
// match on, whether the text ends with a stop string.
struct Naive {
  std::string text;
  std::optional<size_t> matched;
};

Naive NaiveMatch(const std::string& text, size_t first, const std::vector<std::string>& stops,
                 bool include_stop) {
  for (size_t end = first + 1; end <= text.size(); ++end) {
    std::optional<size_t> best;
    for (size_t i = 0; i < stops.size(); ++i) {
      if (stops[i].size() > end || text.compare(end - stops[i].size(), stops[i].size(), stops[i]) != 0)
        continue;
      if (!best || stops[i].size() > stops[*best].size()) best = i;
    }
    if (best) return {text.substr(0, end - (include_stop ? 0 : stops[*best].size())), best};
  }
  return {text, std::nullopt};
}

// No byte of `sent` could still have become part of the stop string, given what was pushed.
bool MightHaveStopped(const std::string& pushed, size_t sent, const std::vector<std::string>& stops) {
  for (const std::string& stop : stops) {
    for (size_t length = 1; length <= std::min(stop.size() - 1, pushed.size()); ++length) {
      if (pushed.size() - length < sent &&
          pushed.compare(pushed.size() - length, length, stop, 0, length) == 0) {
        return true;
      }
    }
  }
  return false;
}

TEST(StopMatcherTest, AgreesWithTheNaiveSearchHoweverTheTextIsCut) {
  std::mt19937 random(3);
  const std::vector<std::string> letters = {"a", "b", "c", "\u00e9", "\u65e5"};
  int matches = 0;
  for (int round = 0; round < 20000; ++round) {
    const size_t alphabet = 1 + random() % letters.size();
    const auto word = [&](size_t length) {
      std::string result;
      for (size_t i = 0; i < length; ++i) result += letters[random() % alphabet];
      return result;
    };
    std::vector<std::string> stops;
    for (size_t i = 0, n = 1 + random() % 4; i < n; ++i) stops.push_back(word(1 + random() % 5));
    const bool include_stop = random() % 2 == 0;
    const int unmatched_pieces = static_cast<int>(random() % 4);
    size_t unmatched_bytes = 0;
    StopMatcher matcher = Make(stops, include_stop);
    std::string text, sent;
    std::optional<size_t> matched;
    for (int piece = 0; piece < 8; ++piece) {
      const std::string next = word(random() % 6);
      text += next;
      StopMatcher::Result result;
      if (piece < unmatched_pieces) {
        unmatched_bytes = text.size();
        result.text = matcher.PushUnmatched(next);
      } else {
        result = matcher.Push(next);
      }
      ASSERT_TRUE(IsValidUtf8(result.text));
      sent += result.text;
      matched = result.matched_index;
      if (matched) break;
      ASSERT_FALSE(MightHaveStopped(text, sent.size(), stops));
      ASSERT_EQ(sent.size() + matcher.held_bytes(), text.size());
    }
    sent += matcher.Flush();
    const Naive want = NaiveMatch(text, unmatched_bytes, stops, include_stop);
    ASSERT_EQ(sent, want.text);
    ASSERT_EQ(matched, want.matched);
    matches += matched.has_value();
  }
  EXPECT_GT(matches, 2000);
}

}  // namespace
}  // namespace mambad
