#include "engine/text/pattern_subset.h"

#include <string>

#include "gtest/gtest.h"

namespace mambad {
namespace {

TEST(PatternSubsetTest, AcceptsWhatBothEnginesReadAlike) {
  for (
      const std::string pattern :
      {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
       R"([!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+)", R"(a{2}b{2,}c{2,5}d)",
       R"((?>a++|b*?|c?+)(?<=x)(?<!y)(?=z))", R"([a-z0-9-])", R"(\x{1F600}|\P{Lu}|\D\d)",
       "[一-龥぀-ゟ゠-ヿ]+", "[0-9][0-9][0-9]", "((a|b)c)*"}) {
    EXPECT_TRUE(CheckPatternSubset(pattern).ok()) << pattern << ": " << CheckPatternSubset(pattern);
  }
}

TEST(PatternSubsetTest, RefusesTheRest) {
  for (const std::string pattern :
       {R"(\w)",     R"(\bx)",  R"(\h)",       R"(\R)",      R"(\X)",     R"(\1(a))",    R"(\A)",
        R"(\u0041)", R"(\x41)", R"(\pL)",      R"(\p{Han})", R"(\p{^L})", R"(\p{L)",     R"(\)",
        "^a",        "a$",      "(?i)a",       "(?m:a)",     "(?<n>a)",   "(?#c)",       "(*UTF)",
        "*a",        "a**",     "a{2}+",       "a{2}?",      "a{,2}",     "a{x}",        "a{",
        "{",         "}",       "]",           "a|*",        "(a",        "a)",          "[a",
        "[]",        "[]a]",    "[[:alpha:]]", "[a[b]]",     "[a&&b]",    "[\\s-x]",     "[a-\\d]",
        "[a-b-c]",   "[a-",     "(?i:ss)",     "(?i:St)",    "(?i:fi)",   "(?i:\u00e9)", "(?i:[\u00e9])",
        "a{99999}"}) {
    EXPECT_FALSE(CheckPatternSubset(pattern).ok()) << pattern;
  }
}

TEST(PatternSubsetTest, SaysWhereAndWhat) {
  EXPECT_EQ(CheckPatternSubset("ab\\w").message(), "has an unsupported escape at byte 3");
  EXPECT_EQ(CheckPatternSubset(std::string(1000, '(')).message(), "has too many nested groups at byte 100");
}

}  // namespace
}  // namespace mambad
