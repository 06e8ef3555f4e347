#include "engine/text/normalizer.h"

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "engine/text/code_point_ranges.h"
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

// Code points with a combining class or a composition that Unicode 9 did not know, ascending.
constexpr CodePointRange kYounger[] = {
    {0x07FD, 0x07FD},   {0x0898, 0x089F},   {0x08CA, 0x08D3},   {0x09FE, 0x09FE},   {0x0C3C, 0x0C3C},
    {0x0D3B, 0x0D3C},   {0x0EBA, 0x0EBA},   {0x1715, 0x1715},   {0x1ABF, 0x1ACE},   {0x1DF6, 0x1DFA},
    {0xA82C, 0xA82C},   {0x10D24, 0x10D27}, {0x10EAB, 0x10EAC}, {0x10EFD, 0x10EFF}, {0x10F46, 0x10F50},
    {0x10F82, 0x10F85}, {0x11070, 0x11070}, {0x1133B, 0x1133B}, {0x1145E, 0x1145E}, {0x11839, 0x1183A},
    {0x11930, 0x11930}, {0x11938, 0x11938}, {0x1193D, 0x1193E}, {0x11943, 0x11943}, {0x119E0, 0x119E0},
    {0x11A34, 0x11A34}, {0x11A47, 0x11A47}, {0x11A99, 0x11A99}, {0x11D42, 0x11D42}, {0x11D44, 0x11D45},
    {0x11D97, 0x11D97}, {0x11F41, 0x11F42}, {0x16FF0, 0x16FF1}, {0x1E08F, 0x1E08F}, {0x1E130, 0x1E136},
    {0x1E2AE, 0x1E2AE}, {0x1E2EC, 0x1E2EF}, {0x1E4EC, 0x1E4EF},
};

bool IsYounger(utf8proc_int32_t code_point) {
  return IsInRanges(static_cast<char32_t>(code_point), kYounger);
}

// Below U+0300 every code point is in NFC, combines with nothing before it, and has combining class 0. Lead
// bytes of all others are at least this one.
constexpr uint8_t kFirstAffectedLead = 0xCC;

bool Affected(char byte) { return static_cast<uint8_t>(byte) >= kFirstAffectedLead; }

// Orders and composes `block`, decomposed code points of which only the first may be a younger one.
void AppendComposed(std::span<utf8proc_int32_t> block, std::string* out) {
  if (block.empty()) return;
  const auto is_starter = [](utf8proc_int32_t c) { return CombiningClass(c) == 0; };
  // Canonical order: each run of combining marks sorted by class, equal ones in their order.
  for (auto begin = block.begin() + (IsYounger(block.front()) ? 1 : 0); begin != block.end();) {
    begin = std::find_if_not(begin, block.end(), is_starter);
    const auto end = std::find_if(begin, block.end(), is_starter);
    std::stable_sort(begin, end, [](utf8proc_int32_t a, utf8proc_int32_t b) {
      return CombiningClass(a) < CombiningClass(b);
    });
    begin = end;
  }
  const utf8proc_ssize_t length =
      utf8proc_normalize_utf32(block.data(), static_cast<utf8proc_ssize_t>(block.size()), kNfc);
  MAMBAD_CHECK(length >= 0);
  for (const utf8proc_int32_t c : block.first(static_cast<size_t>(length))) {
    AppendUtf8(static_cast<char32_t>(c), out);
  }
}

// A younger code point is to Unicode 9 a starter that composes with nothing: nothing is ordered or composed
// across it.
void AppendNormalized(std::string_view segment, std::vector<utf8proc_int32_t>* block, std::string* out) {
  block->clear();
  for (size_t i = 0; i < segment.size();) {
    const CodePoint next = CodePointAt(segment, i);
    const utf8proc_int32_t code_point = static_cast<utf8proc_int32_t>(next.value);
    i += next.bytes;
    if (IsYounger(code_point)) {
      AppendComposed(*block, out);
      block->assign(1, code_point);
      continue;
    }
    utf8proc_int32_t parts[kMaxDecomposition];
    int boundary = 0;
    const utf8proc_ssize_t count =
        utf8proc_decompose_char(code_point, parts, kMaxDecomposition, kNfc, &boundary);
    MAMBAD_CHECK(count > 0 && count <= kMaxDecomposition);
    block->insert(block->end(), parts, parts + count);
  }
  AppendComposed(*block, out);
}

}  // namespace

std::string NormalizeNfc(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  std::vector<utf8proc_int32_t> block;
  size_t at = 0;
  while (true) {
    const size_t affected = std::find_if(text.begin() + at, text.end(), Affected) - text.begin();
    if (affected == text.size()) break;
    // The code point before may combine with the affected ones; nothing further away can.
    const size_t begin = affected > at ? PreviousCodePoint(text, affected) : affected;
    size_t end = affected;
    while (end < text.size() && Affected(text[end])) end += CodePointAt(text, end).bytes;
    out.append(text.substr(at, begin - at));
    AppendNormalized(text.substr(begin, end - begin), &block, &out);
    at = end;
  }
  out.append(text.substr(at));
  return out;
}

}  // namespace mambad
