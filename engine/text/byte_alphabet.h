// GPT-2's alphabet: a printable code point for each byte, so that a vocabulary of byte strings can be written
// as text.
#ifndef MAMBAD_ENGINE_TEXT_BYTE_ALPHABET_H_
#define MAMBAD_ENGINE_TEXT_BYTE_ALPHABET_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace mambad {

// The letter of `byte`, at most U+0143: itself if printable Latin-1, else U+0100 and up in byte order.
char32_t LetterOfByte(uint8_t byte);

// The byte of `letter`, if it is one of the 256.
std::optional<uint8_t> ByteOfLetter(char32_t letter);

// Writes the letters of all bytes.
void AppendLetters(std::string_view bytes, std::string* out);

// The bytes of a text that consists of letters only; nothing if it has any other code point. `text` is UTF-8.
std::optional<std::string> BytesOfLetters(std::string_view text);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_BYTE_ALPHABET_H_
