// Unicode normalization form C.
#ifndef MAMBAD_ENGINE_TEXT_NORMALIZER_H_
#define MAMBAD_ENGINE_TEXT_NORMALIZER_H_

#include <string>
#include <string_view>

namespace mambad {

// NFC of well-formed UTF-8, in O(n log n) whatever the text (a library's usual routine is quadratic in the
// length of a run of combining marks). Unicode 15.0. Hugging Face's own tables are older: for random
// sequences of combining marks with U+09FE, U+0D3B, U+0D3C or U+0EBA its order of the marks differs.
std::string NormalizeNfc(std::string_view text);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_NORMALIZER_H_
