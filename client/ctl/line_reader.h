// Lines of standard input: edited on a terminal (arrows, history, Ctrl-A/E/K/U/W), as they come from anything
// else.
#ifndef MAMBAD_CLIENT_CTL_LINE_READER_H_
#define MAMBAD_CLIENT_CTL_LINE_READER_H_

#include <termios.h>

#include <optional>
#include <string>
#include <string_view>

#include "client/ctl/interrupts.h"
#include "client/ctl/line_buffer.h"

namespace mambad::ctl {

// Changes how the terminal on standard input treats keys, until destroyed. Does nothing without a terminal.
class TerminalMode {
 public:
  enum class Keys {
    kRaw,    // every key is a byte, Ctrl-C too
    kQuiet,  // nothing typed is shown; Ctrl-C is a signal
  };
  explicit TerminalMode(Keys keys);
  ~TerminalMode();
  TerminalMode(const TerminalMode&) = delete;
  TerminalMode& operator=(const TerminalMode&) = delete;

 private:
  std::optional<termios> before_;
};

class LineReader {
 public:
  enum class End { kLine, kInterrupt, kEndOfInput, kTooLong };
  struct Line {
    End end;
    std::string text;
  };

  // `interrupts` outlives the reader.
  explicit LineReader(Interrupts& interrupts);

  // Whether lines are typed by a person.
  bool interactive() const { return interactive_; }

  // Shows `prompt` (dim, when interactive) and waits for a line.
  Line Read(std::string_view prompt);

 private:
  Line ReadEdited(std::string_view prompt);
  Line ReadPlain(std::string_view prompt);
  // Handles the bytes of one key. Nothing: the line goes on.
  std::optional<End> HandleKey(char key);
  void HandleEscape();
  void Draw(std::string_view prompt) const;
  // The next byte; nothing at the end of input or at a Ctrl-C that came as a signal (`interrupted_`).
  std::optional<char> NextByte();

  Interrupts& interrupts_;
  bool interactive_;
  bool editing_;
  bool interrupted_ = false;
  LineBuffer buffer_;
  std::string input_;  // read and not yet used
  size_t used_ = 0;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_LINE_READER_H_
