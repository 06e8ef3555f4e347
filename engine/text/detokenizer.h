// Token ids to text, one at a time: a code point whose bytes are spread over tokens is held back until it is
// whole.
#ifndef MAMBAD_ENGINE_TEXT_DETOKENIZER_H_
#define MAMBAD_ENGINE_TEXT_DETOKENIZER_H_

#include <cstdint>
#include <string>

#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"

namespace mambad {

// Promise: the concatenation of all Append results and Finish equals Tokenizer::Decode of all ids, and each
// of them is whole UTF-8. A copy continues on its own (fork); it is a few words in size. Not synchronized.
class Detokenizer {
 public:
  // `tokenizer` must outlive the detokenizer and its copies.
  Detokenizer(const Tokenizer* tokenizer, bool skip_special)
      : tokenizer_(tokenizer), skip_special_(skip_special) {}

  // The text that `id` completes; may be empty. Bytes that can no longer become a code point turn into U+FFFD
  // at once.
  std::string Append(uint32_t id);

  // The rest: empty, or U+FFFD for the code point that was left incomplete. Ready for a new text afterwards.
  std::string Finish();

  // Bytes held back, at most 3.
  int held_bytes() const { return decoder_.held_bytes(); }

 private:
  const Tokenizer* tokenizer_;
  bool skip_special_;
  Utf8StreamDecoder decoder_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_DETOKENIZER_H_
