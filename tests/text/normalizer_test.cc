#include "engine/text/normalizer.h"

#include <random>
#include <string>

#include "engine/text/utf8.h"
#include "gtest/gtest.h"
#include "utf8proc.h"

namespace mambad {
namespace {

std::string LibraryNfc(const std::string& text) {
  utf8proc_uint8_t* result = nullptr;
  const utf8proc_ssize_t size = utf8proc_map(
      reinterpret_cast<const utf8proc_uint8_t*>(text.data()), static_cast<utf8proc_ssize_t>(text.size()),
      &result, static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE));
  const std::string nfc = size >= 0 ? std::string(reinterpret_cast<char*>(result), size) : "";
  free(result);
  return nfc;
}

TEST(NormalizerTest, ComposesAndOrders) {
  EXPECT_EQ(NormalizeNfc("e\u0301"), "\u00e9");
  EXPECT_EQ(NormalizeNfc("xe\u0301\u0327y"), "x\u0229\u0301y");
  EXPECT_EQ(NormalizeNfc("\u1112\u1161\u11ab"), "\ud55c");
  EXPECT_EQ(NormalizeNfc("\u212b\u2126"), "\u00c5\u03a9");
  EXPECT_EQ(NormalizeNfc("plain \u00e9 \n"), "plain \u00e9 \n");
  EXPECT_EQ(NormalizeNfc(std::string("e\0\u0301", 4)), std::string("e\0\u0301", 4));
  EXPECT_EQ(NormalizeNfc(""), "");
}

TEST(NormalizerTest, LeavesTheOrderOfYoungerMarksAlone) {
  EXPECT_EQ(NormalizeNfc("q\u0898\u0334"), "q\u0898\u0334");  // Unicode 14, class 230 before 1
  EXPECT_EQ(NormalizeNfc("e\u1abf\u0301"), "e\u1abf\u0301");  // Unicode 13: blocks the composition
  EXPECT_EQ(NormalizeNfc("\U00011935\U00011930"), "\U00011935\U00011930");  // Unicode 13: does not compose
  EXPECT_EQ(NormalizeNfc("\U00011938"), "\U00011938");
}

// Marks that Unicode 9 knew, and letters that compose with them.
TEST(NormalizerTest, AgreesWithTheLibraryOnRandomMarks) {
  std::mt19937 random(5);
  const char32_t units[] = {'a',    'e',    'q',    0xE9,    0x301,  0x308,  0x327, 0x323, 0x334,
                            0x345,  0x3B1,  0x1112, 0x1161,  0x11AB, 0xAC00, 0x9C7, 0x9BE, 0x1F71,
                            0x212B, 0x2F00, 0xFB1D, 0x1D15E, 0x20E1, 0x344,  ' '};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (int i = 0, n = 1 + static_cast<int>(random() % 12); i < n; ++i) {
      AppendUtf8(units[random() % std::size(units)], &text);
    }
    ASSERT_EQ(NormalizeNfc(text), LibraryNfc(text)) << text;
  }
}

}  // namespace
}  // namespace mambad
