// The pattern of a `Split` pre-tokenizer: a literal, or a regular expression run by PCRE2.
#ifndef MAMBAD_ENGINE_TEXT_SPLIT_PATTERN_H_
#define MAMBAD_ENGINE_TEXT_SPLIT_PATTERN_H_

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mambad {

// Half open, in bytes.
struct Span {
  size_t begin, end;
};

// Hugging Face matches with Oniguruma (Ruby syntax), this with PCRE2. Only what means the same to both is
// accepted: literals; \p{..} and \P{..} of a general category; \s \S \d \D \t \n \r \f \x{..}; . | ( (?: (?i:
// (?= (?! (?<= (?<!
// (?>; * + ? with lazy or possessive mark; {n} {n,} {n,m}; classes of these without nesting. Anchors, \w, \b,
// back-references and inline options are not. Categories are those of Unicode 14 (and U+180E is no white
// space): characters that Unicode 15 added belong to the category of a stand-in.
//
// Immutable: may be used from any thread.
class SplitPattern {
 public:
  static constexpr size_t kMaxPatternBytes = 16384;

  // INVALID_ARGUMENT says what in the pattern is not accepted, without repeating it.
  static absl::StatusOr<SplitPattern> Regex(std::string_view pattern);
  static absl::StatusOr<SplitPattern> Literal(std::string_view literal);

  SplitPattern(SplitPattern&&);
  SplitPattern& operator=(SplitPattern&&);
  ~SplitPattern();

  // Working memory of one thread's calls.
  class Scratch {
   public:
    explicit Scratch(const SplitPattern& pattern);
    ~Scratch();
    Scratch(const Scratch&) = delete;
    Scratch& operator=(const Scratch&) = delete;

   private:
    friend class SplitPattern;
    struct Match;
    std::unique_ptr<Match> match_;
    std::string stand_in_;
  };

  // All matches in `text` (UTF-8), left to right. INVALID_ARGUMENT when one takes more steps than the limit.
  absl::Status FindAll(std::string_view text, Scratch* scratch, std::vector<Span>* matches) const;

 private:
  struct Code;
  SplitPattern();

  std::unique_ptr<Code> code_;  // null: a literal
  std::string literal_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_SPLIT_PATTERN_H_
