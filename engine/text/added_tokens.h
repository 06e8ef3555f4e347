// Tokens that are looked for in the text itself, before it is split into words.
#ifndef MAMBAD_ENGINE_TEXT_ADDED_TOKENS_H_
#define MAMBAD_ENGINE_TEXT_ADDED_TOKENS_H_

#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace mambad {

struct AddedToken {
  uint32_t id = 0;
  std::string content;
  bool single_word = false;  // only between characters that belong to no word
  bool lstrip = false;       // takes the white space before it along
  bool rstrip = false;       // takes the white space after it along
  bool normalized = false;   // looked for in the normalized text
  bool special = false;      // left out by skip_special decoding
};

// Immutable set of added tokens that finds them in a text: leftmost, then longest, without overlap.
class AddedTokenMatcher {
 public:
  // The cost of a search is O(text x longest content).
  static constexpr size_t kMaxContentBytes = 1024;

  struct Piece {
    std::string_view text;  // an ordinary piece of the text, or the match with the white space it took along
    bool is_token;
    uint32_t id;
  };

  AddedTokenMatcher();

  // False if there is a token with this content already. 1 to kMaxContentBytes bytes of UTF-8.
  bool Add(const AddedToken& token, std::string_view content);

  // Cuts `text`, which the pieces refer to, into tokens and what lies between them; no ordinary piece is
  // empty.
  std::vector<Piece> Split(std::string_view text) const;

 private:
  struct Node {
    std::vector<std::pair<uint8_t, uint32_t>> children;  // byte, node; ascending
    int32_t token = -1;                                  // index of the token that ends here
  };

  uint32_t Child(uint32_t node, uint8_t byte) const;
  // The length of the longest token at text[at] and its index; length 0 without one.
  std::pair<size_t, int32_t> LongestAt(std::string_view text, size_t at) const;

  std::vector<AddedToken> tokens_;
  std::vector<Node> nodes_;           // a trie; node 0 is the root
  std::array<bool, 256> first_ = {};  // bytes that begin a token
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_ADDED_TOKENS_H_
