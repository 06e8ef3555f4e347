#include "engine/text/utf8.h"

#include <cstring>

#include "kernels/base/check.h"

namespace mambad {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";

// What may follow a lead byte: the length of the code point and the range of its second byte (table 3-7).
struct Lead {
  uint8_t bytes;  // 0: not a lead byte
  uint8_t second_min, second_max;
};

constexpr Lead LeadOf(uint8_t byte) {
  if (byte < 0x80) return {1, 0, 0};
  if (byte < 0xC2) return {0, 0, 0};
  if (byte < 0xE0) return {2, 0x80, 0xBF};
  if (byte == 0xE0) return {3, 0xA0, 0xBF};
  if (byte == 0xED) return {3, 0x80, 0x9F};
  if (byte < 0xF0) return {3, 0x80, 0xBF};
  if (byte == 0xF0) return {4, 0x90, 0xBF};
  if (byte < 0xF4) return {4, 0x80, 0xBF};
  if (byte == 0xF4) return {4, 0x80, 0x8F};
  return {0, 0, 0};
}

// How many bytes at the start of `bytes` agree with one well-formed code point (0: not even the first), and
// how many that code point has.
struct Prefix {
  size_t agree, bytes;
};

Prefix PrefixOf(std::string_view bytes) {
  const Lead lead = LeadOf(static_cast<uint8_t>(bytes[0]));
  if (lead.bytes == 0) return {0, 0};
  size_t agree = 1;
  while (agree < lead.bytes && agree < bytes.size()) {
    const uint8_t byte = static_cast<uint8_t>(bytes[agree]);
    const uint8_t low = agree == 1 ? lead.second_min : 0x80;
    const uint8_t high = agree == 1 ? lead.second_max : 0xBF;
    if (byte < low || byte > high) break;
    ++agree;
  }
  return {agree, lead.bytes};
}

size_t AsciiLength(std::string_view text) {
  size_t i = 0;
  for (uint64_t word; i + 8 <= text.size(); i += 8) {
    std::memcpy(&word, text.data() + i, 8);
    if (word & 0x8080808080808080u) break;
  }
  while (i < text.size() && static_cast<uint8_t>(text[i]) < 0x80) ++i;
  return i;
}

}  // namespace

bool IsValidUtf8(std::string_view text) {
  while (true) {
    text.remove_prefix(AsciiLength(text));
    if (text.empty()) return true;
    const Prefix prefix = PrefixOf(text);
    if (prefix.agree == 0 || prefix.agree < prefix.bytes) return false;
    text.remove_prefix(prefix.bytes);
  }
}

CodePoint CodePointAt(std::string_view text, size_t at) {
  const auto byte = [&](size_t i) { return static_cast<char32_t>(static_cast<uint8_t>(text[at + i])); };
  const char32_t first = byte(0);
  if (first < 0x80) return {first, 1};
  if (first < 0xE0) return {(first & 0x1F) << 6 | (byte(1) & 0x3F), 2};
  if (first < 0xF0) return {(first & 0x0F) << 12 | (byte(1) & 0x3F) << 6 | (byte(2) & 0x3F), 3};
  return {(first & 0x07) << 18 | (byte(1) & 0x3F) << 12 | (byte(2) & 0x3F) << 6 | (byte(3) & 0x3F), 4};
}

size_t PreviousCodePoint(std::string_view text, size_t end) {
  MAMBAD_DCHECK(end > 0);
  size_t start = end - 1;
  while (start > 0 && (static_cast<uint8_t>(text[start]) & 0xC0) == 0x80) --start;
  return start;
}

void AppendUtf8(char32_t code_point, std::string* out) {
  const auto tail = [&](int shift) {
    out->push_back(static_cast<char>(0x80 | (code_point >> shift & 0x3F)));
  };
  if (code_point < 0x80) {
    out->push_back(static_cast<char>(code_point));
  } else if (code_point < 0x800) {
    out->push_back(static_cast<char>(0xC0 | code_point >> 6));
    tail(0);
  } else if (code_point < 0x10000) {
    out->push_back(static_cast<char>(0xE0 | code_point >> 12));
    tail(6);
    tail(0);
  } else {
    out->push_back(static_cast<char>(0xF0 | code_point >> 18));
    tail(12);
    tail(6);
    tail(0);
  }
}

void Utf8StreamDecoder::Append(std::string_view bytes, std::string* out) {
  // At most 3 bytes are held, so the first bytes of the input decide about them.
  while (held_bytes_ > 0 && !bytes.empty()) {
    held_[held_bytes_] = bytes[0];
    const Prefix prefix = PrefixOf({held_, size_t{held_bytes_} + 1});
    if (prefix.agree == held_bytes_) {  // the new byte does not continue the code point
      out->append(kReplacement);
      held_bytes_ = 0;
      break;
    }
    bytes.remove_prefix(1);
    ++held_bytes_;
    if (prefix.agree == prefix.bytes) {
      out->append(held_, held_bytes_);
      held_bytes_ = 0;
    }
  }
  while (!bytes.empty()) {
    const size_t ascii = AsciiLength(bytes);
    out->append(bytes.substr(0, ascii));
    bytes.remove_prefix(ascii);
    if (bytes.empty()) return;
    const Prefix prefix = PrefixOf(bytes);
    if (prefix.agree > 0 && prefix.agree == prefix.bytes) {
      out->append(bytes.substr(0, prefix.bytes));
    } else if (prefix.agree == bytes.size()) {
      std::memcpy(held_, bytes.data(), bytes.size());
      held_bytes_ = static_cast<uint8_t>(bytes.size());
    } else {
      out->append(kReplacement);
    }
    bytes.remove_prefix(prefix.agree > 0 ? prefix.agree : 1);
  }
}

void Utf8StreamDecoder::Finish(std::string* out) {
  if (held_bytes_ > 0) out->append(kReplacement);
  held_bytes_ = 0;
}

}  // namespace mambad
