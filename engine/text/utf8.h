// UTF-8: validation, one code point at a time, and lossy decoding.
#ifndef MAMBAD_ENGINE_TEXT_UTF8_H_
#define MAMBAD_ENGINE_TEXT_UTF8_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace mambad {

// Well-formed UTF-8 in the sense of Unicode table 3-7: no surrogates, no overlong forms, at most U+10FFFF.
bool IsValidUtf8(std::string_view text);

// The code point at text[at] of well-formed UTF-8, and its length in bytes (1 to 4).
struct CodePoint {
  char32_t value;
  size_t bytes;
};
CodePoint CodePointAt(std::string_view text, size_t at);

// The start of the code point that ends right before text[end] of well-formed UTF-8; end > 0.
size_t PreviousCodePoint(std::string_view text, size_t end);

// `code_point` must be a scalar value.
void AppendUtf8(char32_t code_point, std::string* out);

// Bytes in, well-formed UTF-8 out: each maximal ill-formed piece becomes one U+FFFD (the Unicode standard's
// "substitution of maximal subparts", which is also what Rust's from_utf8_lossy does), however the input is
// cut.
class Utf8StreamDecoder {
 public:
  void Append(std::string_view bytes, std::string* out);
  // Emits U+FFFD if a code point was left incomplete.
  void Finish(std::string* out);
  int held_bytes() const { return held_bytes_; }

 private:
  char held_[4] = {};  // a proper prefix of a well-formed code point
  uint8_t held_bytes_ = 0;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_UTF8_H_
