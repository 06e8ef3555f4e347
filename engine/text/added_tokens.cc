#include "engine/text/added_tokens.h"

#include <algorithm>

#include "engine/text/unicode_class.h"
#include "engine/text/utf8.h"

namespace mambad {
namespace {

constexpr uint32_t kNoNode = 0;  // the root is nobody's child

bool WordEndsAt(std::string_view text, size_t at) {
  return at > 0 && IsWordCharacter(CodePointAt(text, PreviousCodePoint(text, at)).value);
}

bool WordBeginsAt(std::string_view text, size_t at) {
  return at < text.size() && IsWordCharacter(CodePointAt(text, at).value);
}

size_t SpacesBegin(std::string_view text, size_t end, size_t limit) {
  while (end > limit) {
    const size_t before = PreviousCodePoint(text, end);
    if (before < limit || !IsWhitespace(CodePointAt(text, before).value)) break;
    end = before;
  }
  return end;
}

// The end of white space at a place; asked about places in one run again and again, it walks the run once.
class SpacesEnd {
 public:
  explicit SpacesEnd(std::string_view text) : text_(text) {}

  size_t From(size_t at) {
    if (at < begin_ || at >= end_) {
      begin_ = end_ = at;
      while (end_ < text_.size()) {
        const CodePoint next = CodePointAt(text_, end_);
        if (!IsWhitespace(next.value)) break;
        end_ += next.bytes;
      }
    }
    return end_;
  }

 private:
  std::string_view text_;
  size_t begin_ = 0, end_ = 0;
};

}  // namespace

AddedTokenMatcher::AddedTokenMatcher() : nodes_(1) {}

uint32_t AddedTokenMatcher::Child(uint32_t node, uint8_t byte) const {
  const auto& children = nodes_[node].children;
  const auto found =
      std::lower_bound(children.begin(), children.end(), std::pair<uint8_t, uint32_t>(byte, 0));
  return found != children.end() && found->first == byte ? found->second : kNoNode;
}

bool AddedTokenMatcher::Add(const AddedToken& token, std::string_view content) {
  uint32_t node = 0;
  for (const char c : content) {
    const uint8_t byte = static_cast<uint8_t>(c);
    uint32_t child = Child(node, byte);
    if (child == kNoNode) {
      child = static_cast<uint32_t>(nodes_.size());
      nodes_.emplace_back();
      auto& children = nodes_[node].children;
      children.insert(
          std::lower_bound(children.begin(), children.end(), std::pair<uint8_t, uint32_t>(byte, 0)),
          {byte, child});
    }
    node = child;
  }
  if (nodes_[node].token >= 0) return false;
  nodes_[node].token = static_cast<int32_t>(tokens_.size());
  tokens_.push_back(token);
  first_[static_cast<uint8_t>(content[0])] = true;
  return true;
}

std::pair<size_t, int32_t> AddedTokenMatcher::LongestAt(std::string_view text, size_t at) const {
  std::pair<size_t, int32_t> longest = {0, -1};
  uint32_t node = 0;
  for (size_t i = at; i < text.size(); ++i) {
    node = Child(node, static_cast<uint8_t>(text[i]));
    if (node == kNoNode) break;
    if (nodes_[node].token >= 0) longest = {i + 1 - at, nodes_[node].token};
  }
  return longest;
}

std::vector<AddedTokenMatcher::Piece> AddedTokenMatcher::Split(std::string_view text) const {
  std::vector<Piece> pieces;
  const auto add_text = [&](size_t begin, size_t end) {
    if (begin < end) pieces.push_back({text.substr(begin, end - begin), false, 0});
  };
  SpacesEnd spaces_end(text);
  size_t done = 0;  // everything before is in pieces
  for (size_t at = 0; !tokens_.empty() && at < text.size();) {
    if (!first_[static_cast<uint8_t>(text[at])]) {
      ++at;
      continue;
    }
    const auto [length, index] = LongestAt(text, at);
    if (length == 0) {
      ++at;
      continue;
    }
    const AddedToken& token = tokens_[index];
    size_t begin = at;
    size_t end = at + length;
    at = end;  // also after a match that does not count
    if (token.single_word && (WordEndsAt(text, begin) || WordBeginsAt(text, end))) continue;
    // After a token that took the spaces behind it along, the next one may begin inside them; then `done`
    // stays ahead of `begin`, and goes back to `end`. Hugging Face does the same.
    if (token.lstrip) begin = begin > done ? SpacesBegin(text, begin, done) : done;
    if (token.rstrip) end = spaces_end.From(end);
    add_text(done, begin);
    pieces.push_back({begin < end ? text.substr(begin, end - begin) : std::string_view(), true, token.id});
    done = end;
  }
  add_text(done, text.size());
  return pieces;
}

}  // namespace mambad
