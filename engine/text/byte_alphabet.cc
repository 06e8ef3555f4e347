#include "engine/text/byte_alphabet.h"

#include <array>

#include "engine/text/utf8.h"

namespace mambad {
namespace {

constexpr int kLetterEnd = 0x144;

constexpr bool StandsForItself(int byte) {
  return (byte >= 0x21 && byte <= 0x7E) || (byte >= 0xA1 && byte <= 0xAC) || byte >= 0xAE;
}

struct Alphabet {
  std::array<uint16_t, 256> letter = {};
  std::array<int16_t, kLetterEnd> byte = {};  // -1: no letter
};

constexpr Alphabet MakeAlphabet() {
  Alphabet alphabet;
  for (int16_t& byte : alphabet.byte) byte = -1;
  int next = 0x100;
  for (int byte = 0; byte < 256; ++byte) {
    const int letter = StandsForItself(byte) ? byte : next++;
    alphabet.letter[byte] = static_cast<uint16_t>(letter);
    alphabet.byte[letter] = static_cast<int16_t>(byte);
  }
  return alphabet;
}

constexpr Alphabet kAlphabet = MakeAlphabet();

}  // namespace

char32_t LetterOfByte(uint8_t byte) { return kAlphabet.letter[byte]; }

std::optional<uint8_t> ByteOfLetter(char32_t letter) {
  if (letter >= kLetterEnd || kAlphabet.byte[letter] < 0) return std::nullopt;
  return static_cast<uint8_t>(kAlphabet.byte[letter]);
}

void AppendLetters(std::string_view bytes, std::string* out) {
  for (const char byte : bytes) AppendUtf8(LetterOfByte(static_cast<uint8_t>(byte)), out);
}

std::optional<std::string> BytesOfLetters(std::string_view text) {
  std::string bytes;
  for (size_t i = 0; i < text.size();) {
    const CodePoint letter = CodePointAt(text, i);
    const std::optional<uint8_t> byte = ByteOfLetter(letter.value);
    if (!byte) return std::nullopt;
    bytes.push_back(static_cast<char>(*byte));
    i += letter.bytes;
  }
  return bytes;
}

}  // namespace mambad
