#include "client/ctl/checks.h"

#include "gtest/gtest.h"

namespace mambad::ctl {
namespace {

TEST(ChecksTest, TakesWellFormedUtf8) {
  for (const char* text :
       {"", "abc\x7F", "\xC2\x80", "\xDF\xBF", "\xE0\xA0\x80", "\xED\x9F\xBF", "\xEE\x80\x80", "\xEF\xBF\xBF",
        "\xF0\x90\x80\x80", "\xF4\x8F\xBF\xBF", "caf\xC3\xA9 \xF0\x9F\x90\x8D."})
    EXPECT_TRUE(IsUtf8(text)) << text;
  EXPECT_TRUE(IsUtf8(std::string_view("a\0b", 3)));
}

TEST(ChecksTest, RefusesWhatIsNoUtf8) {
  for (const char* text : {"caf\xE9", "\x80", "\xC1\xBF", "\xC3", "\xC3(", "\xE0\x9F\xBF", "\xE2\x82",
                           "\xE2\x82(", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF", "\xF0\x9F\x90",
                           "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "a\xC3\xA9\xA9"})
    EXPECT_FALSE(IsUtf8(text)) << text;
}

TEST(ChecksTest, SecondsAreFiniteAndNotNegative) {
  for (const char* good : {"0", "0.5", "1e3", "315576000000"}) EXPECT_EQ(CheckSeconds(good), "") << good;
  for (const char* wrong : {"-1", "-1e-9", "nan", "-nan", "inf", "1e300", "315576000001", "x", ""})
    EXPECT_NE(CheckSeconds(wrong), "") << wrong;
}

}  // namespace
}  // namespace mambad::ctl
