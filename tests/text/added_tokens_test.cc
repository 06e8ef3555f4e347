#include "engine/text/added_tokens.h"

#include <string>

#include "gtest/gtest.h"

namespace mambad {
namespace {

AddedToken Token(uint32_t id, std::string content) {
  AddedToken token;
  token.id = id;
  token.content = std::move(content);
  return token;
}

// "[7:text]" for a token, the text itself otherwise.
std::string Show(const AddedTokenMatcher& matcher, std::string_view text) {
  std::string shown;
  for (const AddedTokenMatcher::Piece& piece : matcher.Split(text)) {
    if (!shown.empty()) shown += "|";
    const std::string part(piece.text);
    shown += piece.is_token ? "[" + std::to_string(piece.id) + ":" + part + "]" : part;
  }
  return shown;
}

AddedTokenMatcher Make(const std::vector<AddedToken>& tokens) {
  AddedTokenMatcher matcher;
  for (const AddedToken& token : tokens) EXPECT_TRUE(matcher.Add(token, token.content));
  return matcher;
}

TEST(AddedTokensTest, TakesTheLeftmostThenTheLongest) {
  const AddedTokenMatcher matcher = Make({Token(1, "ab"), Token(2, "abc"), Token(3, "bcd")});
  EXPECT_EQ(Show(matcher, "xabcdab"), "x|[2:abc]|d|[1:ab]");
  EXPECT_EQ(Show(matcher, "abcd"), "[2:abc]|d");
  EXPECT_EQ(Show(matcher, "xbcd"), "x|[3:bcd]");
  EXPECT_EQ(Show(matcher, ""), "");
}

TEST(AddedTokensTest, RefusesTheSameContentTwice) {
  AddedTokenMatcher matcher = Make({Token(1, "a")});
  EXPECT_FALSE(matcher.Add(Token(2, "a"), "a"));
}

TEST(AddedTokensTest, StripsWhiteSpaceOnTheSidesAskedFor) {
  AddedToken left = Token(1, "<l>"), right = Token(2, "<r>");
  left.lstrip = true;
  right.rstrip = true;
  const AddedTokenMatcher matcher = Make({left, right});
  EXPECT_EQ(Show(matcher, "a \n<l> b"), "a|[1: \n<l>]| b");
  EXPECT_EQ(Show(matcher, "a <r>\u3000 b"), "a |[2:<r>\u3000 ]|b");
  EXPECT_EQ(Show(matcher, "<r>  <l>"), "[2:<r>  ]|[1:<l>]");
}

TEST(AddedTokensTest, KeepsToSingleWordsIfAsked) {
  AddedToken word = Token(1, "cat");
  word.single_word = true;
  const AddedTokenMatcher matcher = Make({word});
  EXPECT_EQ(Show(matcher, "cat concat cats (cat)"), "[1:cat]| concat cats (|[1:cat]|)");
  EXPECT_EQ(Show(matcher, "\u00e9cat cat\u0301 cat_ cat\u24d0"), "\u00e9cat cat\u0301 cat_ cat\u24d0");
}

}  // namespace
}  // namespace mambad
