// Cuts a text into the words that BPE works on, and spells them in the byte alphabet.
#ifndef MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_H_
#define MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "engine/text/split_pattern.h"

namespace mambad {

// What becomes of the matches of a pattern and of what lies between them.
enum class SplitBehavior : uint8_t { kRemoved, kIsolated, kMergedWithPrevious, kMergedWithNext, kContiguous };

// Words that lie one after the other in one text; none is empty.
struct Words {
  std::string text;
  std::vector<size_t> ends;

  size_t size() const { return ends.size(); }
  std::string_view operator[](size_t i) const {
    const size_t begin = i == 0 ? 0 : ends[i - 1];
    return std::string_view(text).substr(begin, ends[i] - begin);
  }
  void Add(std::string_view word) {
    if (word.empty()) return;
    text.append(word);
    ends.push_back(text.size());
  }
};

// Each step reads the words of the one before.
struct ByteLevelStep {
  bool add_prefix_space = false;  // to every word that does not begin with one
  bool use_regex = true;          // splits by GPT-2's pattern before spelling the bytes as letters
};
struct DigitsStep {
  bool individual_digits = false;
};
struct PunctuationStep {
  SplitBehavior behavior = SplitBehavior::kIsolated;
};
struct SplitStep {
  SplitPattern pattern;
  SplitBehavior behavior;
  bool invert;  // what lies between the matches is what is split at
};
using PreTokenizerStep = std::variant<ByteLevelStep, DigitsStep, PunctuationStep, SplitStep>;

// Immutable: may be used from any thread.
class PreTokenizer {
 public:
  explicit PreTokenizer(std::vector<PreTokenizerStep> steps) : steps_(std::move(steps)) {}

  // Runs all steps on `text` (UTF-8). INVALID_ARGUMENT when a pattern takes too many steps.
  absl::Status Run(std::string_view text, Words* words) const;

 private:
  std::vector<PreTokenizerStep> steps_;
};

// A piece of a text and whether the pattern matched it.
struct MatchPiece {
  size_t begin, end;
  bool is_match;
};

// Joins or drops pieces that cover a text, as the behavior says. The result is what Hugging Face's split
// gives, also where that is surprising.
std::vector<Span> ApplySplitBehavior(const std::vector<MatchPiece>& pieces, SplitBehavior behavior);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_H_
