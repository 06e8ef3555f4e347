#include "client/ctl/terminal.h"

#include "client/ctl/prompt_flags.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mambad::ctl {
namespace {

using ::testing::ElementsAre;

TEST(TerminalTest, AModelCannotSendEscapesToATerminal) {
  EXPECT_EQ(Printable("a\x1b[2Jb\r\x7f"), "a\xEF\xBF\xBD[2Jb\xEF\xBF\xBD\xEF\xBF\xBD");
  EXPECT_EQ(Printable("\xC2\x9B"
                      "31m"),
            "\xEF\xBF\xBD"
            "31m")
      << "CSI as one character";
  EXPECT_EQ(Printable("tab\there\n\xC3\xA9\xC2\xA0"), "tab\there\n\xC3\xA9\xC2\xA0") << "text stays";
}

TEST(TerminalTest, DimsOnlyWithStyle) {
  EXPECT_EQ(Dim("x", false), "x");
  EXPECT_EQ(Dim("x", true), "\x1b[2mx\x1b[0m");
}

TEST(PromptFlagsTest, RefusesAMissingTokenId) {
  for (const char* wrong : {"1,,2", "1, ,2", ",1", "1,", "1, ", ",", "1 2,"})
    EXPECT_EQ(ParseTokenIds(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
}

TEST(PromptFlagsTest, ParsesTokenIds) {
  EXPECT_THAT(*ParseTokenIds("1,2, 3\n4294967295"), ElementsAre(1, 2, 3, 4294967295U));
  EXPECT_THAT(*ParseTokenIds(""), ElementsAre());
  for (const char* wrong : {"x", "1,-2", "4294967296", "1;2", "@/no/such/file"})
    EXPECT_EQ(ParseTokenIds(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
}

}  // namespace
}  // namespace mambad::ctl
