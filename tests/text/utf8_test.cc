#include "engine/text/utf8.h"

#include <random>

#include "gtest/gtest.h"

namespace mambad {
namespace {

std::string Lossy(std::string_view bytes) {
  std::string text;
  Utf8StreamDecoder decoder;
  decoder.Append(bytes, &text);
  decoder.Finish(&text);
  return text;
}

const std::string kBad = "\uFFFD";

TEST(Utf8Test, WritesAndReadsEveryScalarValue) {
  for (char32_t c = 0; c <= 0x10FFFF; ++c) {
    if (c >= 0xD800 && c <= 0xDFFF) continue;
    std::string bytes;
    AppendUtf8(c, &bytes);
    ASSERT_TRUE(IsValidUtf8(bytes)) << static_cast<uint32_t>(c);
    const CodePoint read = CodePointAt(bytes, 0);
    ASSERT_EQ(read.value, c);
    ASSERT_EQ(read.bytes, bytes.size());
    ASSERT_EQ(PreviousCodePoint("x" + bytes, 1 + bytes.size()), 1u);
  }
}

// The examples of the Unicode standard, section 3.9, and of Rust's documentation.
TEST(Utf8Test, ReplacesEachMaximalIllFormedPieceOnce) {
  EXPECT_EQ(Lossy("\x61\xF1\x80\x80\xE1\x80\xC2\x62\x80\x63\x80\xBF\x64"),
            "a" + kBad + kBad + kBad + "b" + kBad + "c" + kBad + kBad + "d");
  EXPECT_EQ(Lossy("\xC0\xAF\xE0\x80\xBF\xF0\x81\x82\x41"),
            kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A");
  EXPECT_EQ(Lossy("\xED\xA0\x80\xED\xBF\xBF\xED\xAF\x41"),
            kBad + kBad + kBad + kBad + kBad + kBad + kBad + kBad + "A");
  EXPECT_EQ(Lossy("\xF4\x91\x92\x93\xFF\x41\x80\xBF\x42"),
            kBad + kBad + kBad + kBad + kBad + "A" + kBad + kBad + "B");
  EXPECT_EQ(Lossy("Hello \xF0\x90\x80World"), "Hello " + kBad + "World");
  EXPECT_EQ(Lossy("\xF0\x9F\x98"), kBad);
}

TEST(Utf8Test, DecodesAlikeHoweverTheBytesAreCut) {
  std::mt19937 random(7);
  const std::string units[] = {"a",    "\u00e9",   "\u65e5",   "\U0001F642", "\x80",
                               "\xC3", "\xE3\x81", "\xF0\x9F", "\xED\xA0",   "\xFF"};
  for (int round = 0; round < 2000; ++round) {
    std::string bytes;
    for (int i = 0; i < 12; ++i) bytes += units[random() % std::size(units)];
    const std::string whole = Lossy(bytes);
    ASSERT_TRUE(IsValidUtf8(whole));
    ASSERT_EQ(whole == bytes, IsValidUtf8(bytes));
    std::string pieces;
    Utf8StreamDecoder decoder;
    for (size_t at = 0; at < bytes.size();) {
      const size_t size = random() % 4;
      decoder.Append(std::string_view(bytes).substr(at, size), &pieces);
      ASSERT_TRUE(IsValidUtf8(pieces));
      ASSERT_LE(decoder.held_bytes(), 3);
      at += size;
    }
    decoder.Finish(&pieces);
    ASSERT_EQ(pieces, whole);
  }
}

}  // namespace
}  // namespace mambad
