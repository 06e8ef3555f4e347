#include "client/ctl/line_buffer.h"

#include "gtest/gtest.h"

namespace mambad::ctl {
namespace {

TEST(LineBufferTest, MovesAndDeletesWholeCharacters) {
  LineBuffer line;
  line.Insert("a\xC3\xA9\xF0\x9F\x99\x82");  // a, e with acute, a face
  line.Left();
  EXPECT_EQ(line.cursor(), 3U);
  line.Backspace();
  EXPECT_EQ(line.text(), "a\xF0\x9F\x99\x82");
  line.Delete();
  EXPECT_EQ(line.text(), "a");
  line.Delete();
  line.Home();
  line.Backspace();
  line.Left();
  line.End();
  line.Right();
  EXPECT_EQ(line.text(), "a");
}

TEST(LineBufferTest, DeletesWordsAndEnds) {
  LineBuffer line;
  line.Insert("one two  three");
  line.DeleteWord();
  EXPECT_EQ(line.text(), "one two  ");
  line.DeleteWord();
  EXPECT_EQ(line.text(), "one ");
  line.Left();
  line.DeleteToEnd();
  EXPECT_EQ(line.text(), "one");
  line.Left();
  line.DeleteToStart();
  EXPECT_EQ(line.text(), "e");
}

TEST(LineBufferTest, RecallsOlderLinesAndKeepsTheDraft) {
  LineBuffer line;
  for (const char* text : {"first", "second", "second"}) {
    line.Insert(text);
    EXPECT_EQ(line.Take(), text);
  }
  line.Insert("draft");
  line.Older();
  EXPECT_EQ(line.text(), "second");
  line.Older();
  line.Older();
  EXPECT_EQ(line.text(), "first");
  line.Newer();
  line.Newer();
  line.Newer();
  EXPECT_EQ(line.text(), "draft");
}

TEST(LineBufferTest, IsBounded) {
  LineBuffer line;
  line.Insert(std::string(kMaxLineBytes, 'x'));
  line.Insert("y");
  EXPECT_EQ(line.text().size(), kMaxLineBytes);
  line.Clear();
  for (size_t i = 0; i <= kMaxHistory; ++i) {
    line.Insert(std::to_string(i));
    line.Take();
  }
  for (size_t i = 0; i <= kMaxHistory; ++i) line.Older();
  EXPECT_EQ(line.text(), "1");
}

TEST(LineBufferTest, KnowsWideAndJoiningCharacters) {
  EXPECT_EQ(DisplayWidth("abc"), 3U);
  EXPECT_EQ(DisplayWidth("\xE6\xBC\xA2\xE5\xAD\x97"), 4U);  // two Han characters
  EXPECT_EQ(DisplayWidth("e\xCC\x81"), 1U);                 // e and a joining acute
  EXPECT_EQ(DisplayWidth("\xF0\x9F\x99\x82"), 2U);          // a face
}

}  // namespace
}  // namespace mambad::ctl
