#include "engine/text/stand_in.h"

#include <cstdint>

#include "engine/text/code_point_ranges.h"
#include "engine/text/utf8.h"
#include "utf8proc.h"

namespace mambad {
namespace {

// What Unicode 15.0 added to 14.0, ascending.
constexpr CodePointRange kAdded[] = {
    {0x0CF3, 0x0CF3},   {0x0ECE, 0x0ECE},   {0x10EFD, 0x10EFF}, {0x1123F, 0x11241}, {0x11B00, 0x11B09},
    {0x11F00, 0x11F10}, {0x11F12, 0x11F3A}, {0x11F3E, 0x11F59}, {0x1342F, 0x1342F}, {0x13439, 0x13455},
    {0x1B132, 0x1B132}, {0x1B155, 0x1B155}, {0x1D2C0, 0x1D2D3}, {0x1DF25, 0x1DF2A}, {0x1E030, 0x1E06D},
    {0x1E08F, 0x1E08F}, {0x1E4D0, 0x1E4F9}, {0x1F6DC, 0x1F6DC}, {0x1F774, 0x1F776}, {0x1F77B, 0x1F77F},
    {0x1F7D9, 0x1F7D9}, {0x1FA75, 0x1FA77}, {0x1FA87, 0x1FA88}, {0x1FAAD, 0x1FAAF}, {0x1FABB, 0x1FABD},
    {0x1FABF, 0x1FABF}, {0x1FACE, 0x1FACF}, {0x1FADA, 0x1FADB}, {0x1FAE8, 0x1FAE8}, {0x1FAF7, 0x1FAF8},
    {0x2B739, 0x2B739}, {0x31350, 0x323AF},
};

// A code point of four bytes with the category of `c`; for the two of three bytes, one of three.
char32_t SameCategory(char32_t c) {
  switch (utf8proc_category(static_cast<utf8proc_int32_t>(c))) {
    case UTF8PROC_CATEGORY_MN:
      return c < 0x10000 ? 0x0901 : 0x1E8D0;
    case UTF8PROC_CATEGORY_MC:
      return c < 0x10000 ? 0x0903 : 0x11000;
    case UTF8PROC_CATEGORY_LL:
      return 0x1D41A;
    case UTF8PROC_CATEGORY_LM:
      return 0x16B40;
    case UTF8PROC_CATEGORY_LO:
      return 0x10450;
    case UTF8PROC_CATEGORY_ND:
      return 0x104A0;
    case UTF8PROC_CATEGORY_NO:
      return 0x10107;
    case UTF8PROC_CATEGORY_PO:
      return 0x10A50;
    case UTF8PROC_CATEGORY_CF:
      return 0x110BD;
    case UTF8PROC_CATEGORY_SO:
      return 0x1F600;
    default:
      return c;
  }
}

constexpr char32_t kMongolianVowelSeparator = 0x180E;
constexpr char32_t kZeroWidthSpace = 0x200B;

}  // namespace

std::string_view WithStandIns(std::string_view text, std::string* buffer) {
  bool copied = false;
  for (size_t i = 0; i < text.size();) {
    const uint8_t lead = static_cast<uint8_t>(text[i]);
    if (lead != 0xE0 && lead != 0xE1 && lead < 0xF0) {  // no lead byte of a code point in question
      ++i;
      continue;
    }
    const CodePoint code_point = CodePointAt(text, i);
    char32_t stand_in = code_point.value;
    if (code_point.value == kMongolianVowelSeparator) {
      stand_in = kZeroWidthSpace;
    } else if (IsInRanges(code_point.value, kAdded)) {
      stand_in = SameCategory(code_point.value);
    }
    if (stand_in != code_point.value) {
      if (!copied) buffer->assign(text);
      copied = true;
      std::string bytes;
      AppendUtf8(stand_in, &bytes);
      buffer->replace(i, code_point.bytes, bytes);
    }
    i += code_point.bytes;
  }
  return copied ? std::string_view(*buffer) : text;
}

}  // namespace mambad
