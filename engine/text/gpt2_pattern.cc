#include "engine/text/gpt2_pattern.h"

#include <initializer_list>

#include "engine/text/unicode_class.h"
#include "engine/text/utf8.h"

namespace mambad {
namespace {

// The end of the run of `wanted` that begins at `at`, and the start of its last code point.
struct Run {
  size_t end, last;
};

Run RunOf(SplitClass wanted, std::string_view text, size_t at) {
  Run run = {at, at};
  while (run.end < text.size()) {
    const CodePoint next = CodePointAt(text, run.end);
    if (SplitClassOf(next.value) != wanted) break;
    run = {run.end + next.bytes, run.end};
  }
  return run;
}

}  // namespace

size_t Gpt2MatchEnd(std::string_view text, size_t begin) {
  if (text[begin] == '\'') {
    for (const std::string_view contraction : {"'s", "'t", "'re", "'ve", "'m", "'ll", "'d"}) {
      if (text.substr(begin, contraction.size()) == contraction) return begin + contraction.size();
    }
  }
  const size_t word = text[begin] == ' ' ? begin + 1 : begin;
  if (word < text.size()) {
    const SplitClass word_class = SplitClassOf(CodePointAt(text, word).value);
    if (word_class != SplitClass::kSpace) return RunOf(word_class, text, word).end;
  }
  // \s+(?!\S): the last space before a word is left to the word, unless it is alone.
  const Run spaces = RunOf(SplitClass::kSpace, text, begin);
  return spaces.end == text.size() || spaces.last == begin ? spaces.end : spaces.last;
}

}  // namespace mambad
