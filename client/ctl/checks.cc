#include "client/ctl/checks.h"

#include <cstddef>

#include "absl/strings/numbers.h"

namespace mambad::ctl {
namespace {

// google.protobuf.Duration ends here.
constexpr double kMaxSeconds = 315'576'000'000;

// Bytes of the well-formed code point at the start of `text`, which is not empty; 0 when there is none.
size_t CodePointBytes(std::string_view text) {
  const auto byte = [&](size_t i) { return static_cast<unsigned char>(text[i]); };
  const unsigned char lead = byte(0);
  if (lead < 0x80) return 1;
  if (lead < 0xC2 || lead > 0xF4) return 0;
  const size_t bytes = lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : 4;
  if (text.size() < bytes) return 0;
  for (size_t i = 1; i < bytes; ++i) {
    if ((byte(i) & 0xC0) != 0x80) return 0;
  }
  // No overlong form, no surrogate, nothing above U+10FFFF.
  if ((lead == 0xE0 && byte(1) < 0xA0) || (lead == 0xED && byte(1) > 0x9F)) return 0;
  if ((lead == 0xF0 && byte(1) < 0x90) || (lead == 0xF4 && byte(1) > 0x8F)) return 0;
  return bytes;
}

}  // namespace

bool IsUtf8(std::string_view text) {
  while (!text.empty()) {
    const size_t bytes = CodePointBytes(text);
    if (bytes == 0) return false;
    text.remove_prefix(bytes);
  }
  return true;
}

std::string CheckUtf8(const std::string& value) { return IsUtf8(value) ? "" : "not valid UTF-8"; }

std::string CheckSeconds(const std::string& value) {
  double seconds = 0;
  // The comparisons are false for a NaN.
  if (absl::SimpleAtod(value, &seconds) && seconds >= 0 && seconds <= kMaxSeconds) return "";
  return "not a number of seconds";
}

}  // namespace mambad::ctl
