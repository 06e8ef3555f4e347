// Unicode normalization form C.
#ifndef MAMBAD_ENGINE_TEXT_NORMALIZER_H_
#define MAMBAD_ENGINE_TEXT_NORMALIZER_H_

#include <string>
#include <string_view>

namespace mambad {

// NFC of well-formed UTF-8 as Hugging Face's `tokenizers` 0.23 computes it, in O(n log n) whatever the text
// (a library's usual routine is quadratic in the length of a run of combining marks). Their tables are those
// of Unicode 9: marks and compositions that came later are left where they are, although Unicode 15 would
// order and compose them.
std::string NormalizeNfc(std::string_view text);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_NORMALIZER_H_
