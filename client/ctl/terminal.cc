#include "client/ctl/terminal.h"

#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"

namespace mambad::ctl {
namespace {

constexpr char kReplacement[] = "\xEF\xBF\xBD";

bool IsControl(unsigned char byte) { return (byte < 0x20 && byte != '\n' && byte != '\t') || byte == 0x7F; }

}  // namespace

bool HasStyle(int fd) {
  const char* no_color = std::getenv("NO_COLOR");
  const char* term = std::getenv("TERM");
  return isatty(fd) == 1 && (no_color == nullptr || *no_color == '\0') &&
         (term == nullptr || std::string_view(term) != "dumb");
}

std::string Dim(std::string_view text, bool style) {
  return style ? absl::StrCat("\x1b[2m", std::string(text), "\x1b[0m") : std::string(text);
}

std::string Printable(std::string_view text) {
  std::string result;
  result.reserve(text.size());
  for (size_t i = 0; i < text.size(); ++i) {
    const auto byte = static_cast<unsigned char>(text[i]);
    // U+0080 to U+009F, the second set of control characters.
    const bool second_set =
        byte == 0xC2 && i + 1 < text.size() && static_cast<unsigned char>(text[i + 1]) < 0xA0;
    if (IsControl(byte) || second_set) {
      result += kReplacement;
      i += second_set ? 1 : 0;
    } else {
      result += text[i];
    }
  }
  return result;
}

TextOutput::TextOutput() : is_terminal_(isatty(STDOUT_FILENO) == 1) {}

bool TextOutput::Write(std::string_view text) {
  if (text.empty()) return true;
  const std::string shown = is_terminal_ ? Printable(text) : std::string(text);
  at_line_start_ = shown.back() == '\n';
  return std::fwrite(shown.data(), 1, shown.size(), stdout) == shown.size() && std::fflush(stdout) == 0;
}

void TextOutput::EndLine() {
  if (is_terminal_ && !at_line_start_) Write("\n");
}

}  // namespace mambad::ctl
