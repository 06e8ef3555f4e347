// Classes of code points as Hugging Face's `tokenizers` sees them. Exact for every code point assigned in
// Unicode 15.0.
#ifndef MAMBAD_ENGINE_TEXT_UNICODE_CLASS_H_
#define MAMBAD_ENGINE_TEXT_UNICODE_CLASS_H_

#include <cstdint>

namespace mambad {

// What the GPT-2 pattern tells apart: \p{L}, \p{N}, \s and the rest.
enum class SplitClass : uint8_t { kLetter, kNumber, kSpace, kOther };

SplitClass SplitClassOf(char32_t code_point);

// The White_Space property.
bool IsWhitespace(char32_t code_point);

// General category N*: what the `Digits` pre-tokenizer looks for.
bool IsNumeric(char32_t code_point);

// What the `Punctuation` pre-tokenizer looks for: ASCII punctuation and symbols, and general category P* of
// Unicode 8.
bool IsPunctuation(char32_t code_point);

// \w of UTS #18, the word of `single_word` added tokens: alphabetic, marks, decimal digits, connectors,
// joiners.
bool IsWordCharacter(char32_t code_point);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_UNICODE_CLASS_H_
