#include "client/ctl/line_reader.h"

#include <poll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>

#include "absl/strings/str_cat.h"
#include "client/ctl/prompt_flags.h"
#include "client/ctl/terminal.h"

namespace mambad::ctl {
namespace {

constexpr char Ctrl(char letter) { return static_cast<char>(letter - 'A' + 1); }
constexpr char kEscape = '\x1b';
constexpr char kDeleteKey = '\x7f';
constexpr size_t kDefaultColumns = 80;

size_t Columns() {
  winsize size{};
  return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : kDefaultColumns;
}

bool CanEdit() {
  const char* term = std::getenv("TERM");
  return isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1 && term != nullptr &&
         std::string_view(term) != "dumb";
}

}  // namespace

TerminalMode::TerminalMode(Keys keys) {
  termios now{};
  if (tcgetattr(STDIN_FILENO, &now) != 0) return;
  before_ = now;
  now.c_lflag &= ~static_cast<tcflag_t>(ECHO | ICANON | IEXTEN | (keys == Keys::kRaw ? ISIG : 0));
  if (keys == Keys::kRaw) now.c_iflag &= ~static_cast<tcflag_t>(ICRNL | IXON);
  now.c_cc[VMIN] = 1;
  now.c_cc[VTIME] = 0;
  tcsetattr(STDIN_FILENO, TCSADRAIN, &now);
}

TerminalMode::~TerminalMode() {
  if (before_.has_value()) tcsetattr(STDIN_FILENO, TCSADRAIN, &*before_);
}

LineReader::LineReader(Interrupts& interrupts)
    : interrupts_(interrupts),
      interactive_(isatty(STDIN_FILENO) == 1 && isatty(STDOUT_FILENO) == 1),
      editing_(CanEdit()) {}

LineReader::Line LineReader::Read(std::string_view prompt) {
  interrupted_ = false;
  return editing_ ? ReadEdited(prompt) : ReadPlain(prompt);
}

std::optional<char> LineReader::NextByte() {
  while (used_ == input_.size()) {
    pollfd fds[] = {{STDIN_FILENO, POLLIN, 0}, {interrupts_.pending_fd(), POLLIN, 0}};
    if (poll(fds, 2, -1) < 0) {
      if (errno == EINTR) continue;
      return std::nullopt;
    }
    if (fds[1].revents != 0 && interrupts_.Take()) {
      interrupted_ = true;
      return std::nullopt;
    }
    char bytes[4096];
    const ssize_t count = read(STDIN_FILENO, bytes, sizeof(bytes));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0) return std::nullopt;
    input_.assign(bytes, static_cast<size_t>(count));
    used_ = 0;
  }
  return input_[used_++];
}

LineReader::Line LineReader::ReadPlain(std::string_view prompt) {
  if (interactive_) {
    std::fwrite(prompt.data(), 1, prompt.size(), stdout);
    std::fflush(stdout);
  }
  std::string line;
  while (const std::optional<char> byte = NextByte()) {
    if (*byte == '\n') return {End::kLine, line};
    if (line.size() == kMaxPromptBytes) return {End::kTooLong, ""};
    line += *byte;
  }
  if (interrupted_) return {End::kInterrupt, ""};
  // A last line without a newline.
  if (!line.empty()) return {End::kLine, line};
  return {End::kEndOfInput, ""};
}

LineReader::Line LineReader::ReadEdited(std::string_view prompt) {
  const TerminalMode mode(TerminalMode::Keys::kRaw);
  Draw(prompt);
  std::optional<End> end;
  while (!end.has_value()) {
    const std::optional<char> key = NextByte();
    end = key.has_value() ? HandleKey(*key) : interrupted_ ? End::kInterrupt : End::kEndOfInput;
    // Half a paste, or half a character, is not worth drawing.
    if (used_ == input_.size() || end.has_value()) {
      if (end.has_value()) buffer_.End();
      Draw(prompt);
    }
  }
  std::fputs("\n", stdout);
  std::fflush(stdout);
  if (*end == End::kLine) return {End::kLine, buffer_.Take()};
  buffer_.Clear();
  return {*end, ""};
}

std::optional<LineReader::End> LineReader::HandleKey(char key) {
  switch (key) {
    case '\r':
    case '\n':
      return End::kLine;
    case Ctrl('C'):
      return End::kInterrupt;
    case Ctrl('D'):
      if (buffer_.text().empty()) return End::kEndOfInput;
      buffer_.Delete();
      break;
    case Ctrl('A'):
      buffer_.Home();
      break;
    case Ctrl('E'):
      buffer_.End();
      break;
    case Ctrl('B'):
      buffer_.Left();
      break;
    case Ctrl('F'):
      buffer_.Right();
      break;
    case Ctrl('H'):
    case kDeleteKey:
      buffer_.Backspace();
      break;
    case Ctrl('K'):
      buffer_.DeleteToEnd();
      break;
    case Ctrl('U'):
      buffer_.DeleteToStart();
      break;
    case Ctrl('W'):
      buffer_.DeleteWord();
      break;
    case Ctrl('P'):
      buffer_.Older();
      break;
    case Ctrl('N'):
      buffer_.Newer();
      break;
    case Ctrl('L'):
      std::fputs("\x1b[H\x1b[2J", stdout);
      break;
    case kEscape:
      HandleEscape();
      break;
    default:
      // Other control characters mean nothing here; a tab would confuse the columns.
      if (key == '\t') key = ' ';
      if (static_cast<unsigned char>(key) >= 0x20) buffer_.Insert({&key, 1});
  }
  return std::nullopt;
}

// CSI sequences (ESC [ parameters final) and the two-byte ones of keypads (ESC O final).
void LineReader::HandleEscape() {
  const std::optional<char> kind = NextByte();
  if (!kind.has_value() || (*kind != '[' && *kind != 'O')) return;
  std::string parameters;
  std::optional<char> final = NextByte();
  while (final.has_value() && *final < '@') {
    parameters += *final;
    final = NextByte();
  }
  if (!final.has_value()) return;
  const std::string key = *final == '~' ? parameters : std::string(1, *final);
  if (key == "A") buffer_.Older();
  if (key == "B") buffer_.Newer();
  if (key == "C") buffer_.Right();
  if (key == "D") buffer_.Left();
  if (key == "H" || key == "1" || key == "7") buffer_.Home();
  if (key == "F" || key == "4" || key == "8") buffer_.End();
  if (key == "3") buffer_.Delete();
}

// The part of the line around the cursor that fits beside the prompt on one row.
void LineReader::Draw(std::string_view prompt) const {
  const std::string_view text = buffer_.text();
  const size_t prompt_width = DisplayWidth(prompt);
  const size_t columns = Columns();
  const size_t room = columns > prompt_width + 1 ? columns - prompt_width - 1 : 1;

  size_t width = 0;
  size_t first = buffer_.cursor();
  while (first > 0) {
    const size_t start = buffer_.Before(first);
    width += DisplayWidth(text.substr(start, first - start));
    if (width > room) break;
    first = start;
  }
  width = DisplayWidth(text.substr(first, buffer_.cursor() - first));
  size_t last = buffer_.cursor();
  while (last < text.size()) {
    const size_t end = buffer_.After(last);
    width += DisplayWidth(text.substr(last, end - last));
    if (width > room) break;
    last = end;
  }

  std::string row = absl::StrCat("\r", Dim(prompt, HasStyle(STDOUT_FILENO)),
                                 Printable(text.substr(first, last - first)), "\x1b[K");
  const size_t back = DisplayWidth(text.substr(buffer_.cursor(), last - buffer_.cursor()));
  if (back > 0) absl::StrAppend(&row, "\x1b[", back, "D");
  std::fwrite(row.data(), 1, row.size(), stdout);
  std::fflush(stdout);
}

}  // namespace mambad::ctl
