// Text on its way to a person or to a program.
#ifndef MAMBAD_CLIENT_CTL_TERMINAL_H_
#define MAMBAD_CLIENT_CTL_TERMINAL_H_

#include <string>
#include <string_view>

namespace mambad::ctl {

// Whether file descriptor `fd` shows escapes as colours: a terminal, and neither NO_COLOR nor TERM=dumb is
// set.
bool HasStyle(int fd);

// `text` in dim letters when `style`.
std::string Dim(std::string_view text, bool style);

// Control characters (but newline and tab) as U+FFFD: a model may emit any, and a terminal would obey. `text`
// is UTF-8.
std::string Printable(std::string_view text);

// Standard output as the verbs write it: flushed at once, so that a reader sees every delta; safe for a
// terminal, exact for anything else.
class TextOutput {
 public:
  TextOutput();

  // False when nobody can read it any more.
  bool Write(std::string_view text);
  // On a terminal: ends a line that is not at its start.
  void EndLine();
  bool is_terminal() const { return is_terminal_; }

 private:
  bool is_terminal_;
  bool at_line_start_ = true;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_TERMINAL_H_
