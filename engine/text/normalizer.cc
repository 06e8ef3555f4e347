#include "engine/text/normalizer.h"

#include <algorithm>
#include <cstdint>
#include <vector>

#include "engine/text/utf8.h"
#include "kernels/base/check.h"
#include "utf8proc.h"

namespace mambad {
namespace {

constexpr utf8proc_option_t kNfc = static_cast<utf8proc_option_t>(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
// The longest full canonical decomposition of a code point has 4; utf8proc may write fewer than it has room
// for.
constexpr int kMaxDecomposition = 16;

int CombiningClass(utf8proc_int32_t code_point) { return utf8proc_get_property(code_point)->combining_class; }

// Below U+0300 every code point is in NFC, combines with nothing before it, and has combining class 0. Lead
// bytes of all others are at least this one.
constexpr uint8_t kFirstAffectedLead = 0xCC;

bool Affected(char byte) { return static_cast<uint8_t>(byte) >= kFirstAffectedLead; }

void AppendNormalized(std::string_view segment, std::vector<utf8proc_int32_t>* buffer, std::string* out) {
  buffer->clear();
  for (size_t i = 0; i < segment.size();) {
    const CodePoint code_point = CodePointAt(segment, i);
    utf8proc_int32_t parts[kMaxDecomposition];
    int boundary = 0;
    const utf8proc_ssize_t count = utf8proc_decompose_char(static_cast<utf8proc_int32_t>(code_point.value),
                                                           parts, kMaxDecomposition, kNfc, &boundary);
    MAMBAD_CHECK(count > 0 && count <= kMaxDecomposition);
    buffer->insert(buffer->end(), parts, parts + count);
    i += code_point.bytes;
  }
  // Canonical order: each run of combining marks sorted by class, equal ones in their order.
  for (auto begin = buffer->begin(); begin != buffer->end();) {
    const auto is_starter = [](utf8proc_int32_t c) { return CombiningClass(c) == 0; };
    begin = std::find_if_not(begin, buffer->end(), is_starter);
    const auto end = std::find_if(begin, buffer->end(), is_starter);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    begin = end;
  }
  const utf8proc_ssize_t length =
      utf8proc_normalize_utf32(buffer->data(), static_cast<utf8proc_ssize_t>(buffer->size()), kNfc);
  MAMBAD_CHECK(length >= 0);
  for (utf8proc_ssize_t i = 0; i < length; ++i) AppendUtf8(static_cast<char32_t>((*buffer)[i]), out);
}

}  // namespace

std::string NormalizeNfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> buffer;
  size_t at = 0;
  while (true) {
    const size_t affected = std::find_if(text.begin() + at, text.end(), Affected) - text.begin();
    if (affected == text.size()) break;
    // The code point before may combine with the affected ones; nothing further away can.
    const size_t begin = affected > at ? PreviousCodePoint(text, affected) : affected;
    size_t end = affected;
    while (end < text.size() && Affected(text[end])) end += CodePointAt(text, end).bytes;
    out.append(text.substr(at, begin - at));
    AppendNormalized(text.substr(begin, end - begin), &buffer, &out);
    at = end;
  }
  out.append(text.substr(at));
  return out;
}

}  // namespace mambad
