#include "client/ctl/line_buffer.h"

#include <array>
#include <utility>

namespace mambad::ctl {
namespace {

bool IsContinuation(char byte) { return (static_cast<unsigned char>(byte) & 0xC0) == 0x80; }

struct Range {
  char32_t first, last;
};

constexpr std::array<Range, 6> kNarrow = {{{0x0300, 0x036F},
                                           {0x1AB0, 0x1AFF},
                                           {0x200B, 0x200F},
                                           {0x20D0, 0x20FF},
                                           {0xFE00, 0xFE0F},
                                           {0x1F3FB, 0x1F3FF}}};
constexpr std::array<Range, 9> kWide = {{{0x1100, 0x115F},
                                         {0x2E80, 0xA4CF},
                                         {0xAC00, 0xD7A3},
                                         {0xF900, 0xFAFF},
                                         {0xFE30, 0xFE6F},
                                         {0xFF00, 0xFF60},
                                         {0xFFE0, 0xFFE6},
                                         {0x1F300, 0x1FAFF},
                                         {0x20000, 0x3FFFD}}};

template <size_t n>
bool Contains(const std::array<Range, n>& ranges, char32_t character) {
  for (const Range& range : ranges) {
    if (character >= range.first && character <= range.last) return true;
  }
  return false;
}

char32_t Decode(std::string_view bytes) {
  const auto lead = static_cast<unsigned char>(bytes[0]);
  char32_t character = lead < 0x80   ? lead
                       : lead < 0xE0 ? lead & 0x1F
                       : lead < 0xF0 ? lead & 0x0F
                                     : lead & 0x07;
  for (const char byte : bytes.substr(1))
    character = (character << 6) | (static_cast<unsigned char>(byte) & 0x3F);
  return character;
}

}  // namespace

size_t DisplayWidth(std::string_view text) {
  size_t width = 0;
  for (size_t at = 0; at < text.size();) {
    size_t end = at + 1;
    while (end < text.size() && IsContinuation(text[end])) ++end;
    const char32_t character = Decode(text.substr(at, end - at));
    if (Contains(kWide, character) && !Contains(kNarrow, character)) {
      width += 2;
    } else if (!Contains(kNarrow, character)) {
      width += 1;
    }
    at = end;
  }
  return width;
}

size_t LineBuffer::Before(size_t at) const {
  if (at == 0) return 0;
  --at;
  while (at > 0 && IsContinuation(text_[at])) --at;
  return at;
}

size_t LineBuffer::After(size_t at) const {
  if (at == text_.size()) return at;
  ++at;
  while (at < text_.size() && IsContinuation(text_[at])) ++at;
  return at;
}

void LineBuffer::Insert(std::string_view bytes) {
  if (text_.size() + bytes.size() > kMaxLineBytes) return;
  text_.insert(cursor_, bytes);
  cursor_ += bytes.size();
}

void LineBuffer::Left() { cursor_ = Before(cursor_); }
void LineBuffer::Right() { cursor_ = After(cursor_); }

void LineBuffer::Backspace() {
  const size_t start = Before(cursor_);
  text_.erase(start, cursor_ - start);
  cursor_ = start;
}

void LineBuffer::Delete() { text_.erase(cursor_, After(cursor_) - cursor_); }

void LineBuffer::DeleteWord() {
  size_t start = cursor_;
  while (start > 0 && text_[start - 1] == ' ') --start;
  while (start > 0 && text_[start - 1] != ' ') --start;
  text_.erase(start, cursor_ - start);
  cursor_ = start;
}

void LineBuffer::DeleteToStart() {
  text_.erase(0, cursor_);
  cursor_ = 0;
}

void LineBuffer::DeleteToEnd() { text_.erase(cursor_); }

void LineBuffer::Show(size_t entry) {
  if (shown_ == history_.size()) draft_ = text_;
  shown_ = entry;
  text_ = shown_ == history_.size() ? draft_ : history_[shown_];
  cursor_ = text_.size();
}

void LineBuffer::Older() {
  if (shown_ > 0) Show(shown_ - 1);
}

void LineBuffer::Newer() {
  if (shown_ < history_.size()) Show(shown_ + 1);
}

std::string LineBuffer::Take() {
  std::string line = std::move(text_);
  if (!line.empty() && (history_.empty() || history_.back() != line)) {
    if (history_.size() == kMaxHistory) history_.erase(history_.begin());
    history_.push_back(line);
  }
  Clear();
  return line;
}

void LineBuffer::Clear() {
  text_.clear();
  draft_.clear();
  cursor_ = 0;
  shown_ = history_.size();
}

}  // namespace mambad::ctl
