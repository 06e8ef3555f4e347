#include "engine/text/pre_tokenizer.h"

#include <algorithm>
#include <utility>

#include "engine/text/byte_alphabet.h"
#include "engine/text/gpt2_pattern.h"
#include "engine/text/unicode_class.h"
#include "engine/text/utf8.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

// Pieces from the spans that match, which ascend and do not overlap.
std::vector<MatchPiece> PiecesOf(std::string_view text, const std::vector<Span>& matches) {
  std::vector<MatchPiece> pieces;
  size_t done = 0;
  for (const Span& match : matches) {
    if (done != match.begin) pieces.push_back({done, match.begin, false});
    pieces.push_back({match.begin, match.end, true});
    done = match.end;
  }
  if (done != text.size()) pieces.push_back({done, text.size(), false});
  return pieces;
}

// Each code point of the class by itself.
template <typename InClass>
void CharacterMatches(std::string_view text, InClass in_class, std::vector<Span>* matches) {
  matches->clear();
  for (size_t i = 0; i < text.size();) {
    const CodePoint code_point = CodePointAt(text, i);
    if (in_class(code_point.value)) matches->push_back({i, i + code_point.bytes});
    i += code_point.bytes;
  }
}

void AddSplit(std::string_view word, const std::vector<MatchPiece>& pieces, SplitBehavior behavior,
              Words* out) {
  for (const Span& part : ApplySplitBehavior(pieces, behavior)) {
    out->Add(word.substr(part.begin, part.end - part.begin));
  }
}

template <typename InClass>
void SplitAtClass(const Words& words, InClass in_class, SplitBehavior behavior, Words* out) {
  std::vector<Span> matches;
  for (size_t i = 0; i < words.size(); ++i) {
    CharacterMatches(words[i], in_class, &matches);
    AddSplit(words[i], PiecesOf(words[i], matches), behavior, out);
  }
}

absl::Status Apply(const ByteLevelStep& step, const Words& words, Words* out) {
  std::string prefixed;
  for (size_t i = 0; i < words.size(); ++i) {
    std::string_view word = words[i];
    if (step.add_prefix_space && word[0] != ' ') {
      prefixed.assign(1, ' ');
      prefixed.append(word);
      word = prefixed;
    }
    for (size_t at = 0; at < word.size();) {
      const size_t end = step.use_regex ? Gpt2MatchEnd(word, at) : word.size();
      AppendLetters(word.substr(at, end - at), &out->text);
      out->ends.push_back(out->text.size());
      at = end;
    }
  }
  return absl::OkStatus();
}

absl::Status Apply(const DigitsStep& step, const Words& words, Words* out) {
  SplitAtClass(words, IsNumeric,
               step.individual_digits ? SplitBehavior::kIsolated : SplitBehavior::kContiguous, out);
  return absl::OkStatus();
}

absl::Status Apply(const PunctuationStep& step, const Words& words, Words* out) {
  SplitAtClass(words, IsPunctuation, step.behavior, out);
  return absl::OkStatus();
}

absl::Status Apply(const SplitStep& step, const Words& words, Words* out) {
  SplitPattern::Scratch scratch(step.pattern);
  std::vector<Span> matches;
  for (size_t i = 0; i < words.size(); ++i) {
    MAMBAD_RETURN_IF_ERROR(step.pattern.FindAll(words[i], &scratch, &matches));
    std::vector<MatchPiece> pieces = PiecesOf(words[i], matches);
    if (step.invert) {
      for (MatchPiece& piece : pieces) piece.is_match = !piece.is_match;
    }
    AddSplit(words[i], pieces, step.behavior, out);
  }
  return absl::OkStatus();
}

}  // namespace

std::vector<Span> ApplySplitBehavior(const std::vector<MatchPiece>& pieces, SplitBehavior behavior) {
  std::vector<Span> spans;
  bool previous = false;
  switch (behavior) {
    case SplitBehavior::kRemoved:
    case SplitBehavior::kIsolated:
      for (const MatchPiece& piece : pieces) {
        if (behavior == SplitBehavior::kRemoved && piece.is_match) continue;
        spans.push_back({piece.begin, piece.end});
      }
      break;
    case SplitBehavior::kContiguous:
    case SplitBehavior::kMergedWithPrevious:
      for (const MatchPiece& piece : pieces) {
        const bool joins =
            behavior == SplitBehavior::kContiguous ? piece.is_match == previous : piece.is_match && !previous;
        if (joins && !spans.empty()) {
          spans.back().end = piece.end;
        } else {
          spans.push_back({piece.begin, piece.end});
        }
        previous = piece.is_match;
      }
      break;
    case SplitBehavior::kMergedWithNext:
      for (auto piece = pieces.rbegin(); piece != pieces.rend(); ++piece) {
        if (piece->is_match && !previous && !spans.empty()) {
          spans.back().begin = piece->begin;
        } else {
          spans.push_back({piece->begin, piece->end});
        }
        previous = piece->is_match;
      }
      std::reverse(spans.begin(), spans.end());
      break;
  }
  return spans;
}

absl::Status PreTokenizer::Run(std::string_view text, Words* words) const {
  *words = Words();
  words->Add(text);
  for (const PreTokenizerStep& step : steps_) {
    Words next;
    next.text.reserve(words->text.size());
    MAMBAD_RETURN_IF_ERROR(std::visit([&](const auto& s) { return Apply(s, *words, &next); }, step));
    *words = std::move(next);
  }
  return absl::OkStatus();
}

}  // namespace mambad
