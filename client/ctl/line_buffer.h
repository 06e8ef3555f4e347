// One line being edited: text, cursor, history. No terminal in sight.
#ifndef MAMBAD_CLIENT_CTL_LINE_BUFFER_H_
#define MAMBAD_CLIENT_CTL_LINE_BUFFER_H_

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace mambad::ctl {

inline constexpr size_t kMaxLineBytes = 1 << 20;
inline constexpr size_t kMaxHistory = 500;

// How many columns of a terminal UTF-8 text takes: 2 for wide East Asian characters and emoji, 0 for marks
// that join the character before them.
size_t DisplayWidth(std::string_view text);

class LineBuffer {
 public:
  const std::string& text() const { return text_; }
  size_t cursor() const { return cursor_; }  // in bytes, never inside a character

  size_t Before(size_t at) const;  // start of the character that ends at `at`
  size_t After(size_t at) const;   // end of the character that starts at `at`

  // Puts bytes at the cursor; ignored where the line would exceed kMaxLineBytes.
  void Insert(std::string_view bytes);
  void Left();
  void Right();
  void Home() { cursor_ = 0; }
  void End() { cursor_ = text_.size(); }
  void Backspace();
  void Delete();
  void DeleteWord();  // back to the start of the word before the cursor
  void DeleteToStart();
  void DeleteToEnd();

  // Replace the line by an older or newer one; the line being written is the newest.
  void Older();
  void Newer();

  // The finished line, which becomes history; the buffer is empty then.
  std::string Take();
  // Drops the line.
  void Clear();

 private:
  void Show(size_t entry);

  std::string text_;
  size_t cursor_ = 0;
  std::vector<std::string> history_;
  size_t shown_ = 0;   // index in history_; its size: the line being written
  std::string draft_;  // that line, while history is shown
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_LINE_BUFFER_H_
