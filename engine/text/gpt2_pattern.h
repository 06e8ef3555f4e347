// GPT-2's splitting pattern, matched by hand:
//   's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
#ifndef MAMBAD_ENGINE_TEXT_GPT2_PATTERN_H_
#define MAMBAD_ENGINE_TEXT_GPT2_PATTERN_H_

#include <cstddef>
#include <string_view>

namespace mambad {

// The end of the match that begins at text[begin], begin < text.size(). The pattern matches everywhere, so
// the matches cover a text without gaps. `text` is UTF-8. Linear over a whole text.
size_t Gpt2MatchEnd(std::string_view text, size_t begin);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_GPT2_PATTERN_H_
