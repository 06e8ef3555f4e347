#define PCRE2_CODE_UNIT_WIDTH 8
#include "engine/text/split_pattern.h"

#include <pcre2.h>

#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/text/pattern_subset.h"
#include "engine/text/stand_in.h"
#include "engine/text/utf8.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

// What one match may cost, so that a pattern with exponential backtracking ends in an error within about a
// second.
constexpr uint32_t kMaxMatchSteps = 10'000'000;
constexpr uint32_t kMaxMatchHeapKib = 256 * 1024;

std::string PcreMessage(int code) {
  PCRE2_UCHAR buffer[256];
  pcre2_get_error_message(code, buffer, sizeof(buffer));
  return reinterpret_cast<const char*>(buffer);
}

}  // namespace

struct SplitPattern::Code {
  pcre2_code* code = nullptr;
  pcre2_match_context* limits = nullptr;
  ~Code() {
    pcre2_code_free(code);
    pcre2_match_context_free(limits);
  }
};

struct SplitPattern::Scratch::Match {
  pcre2_match_data* data = nullptr;
  ~Match() { pcre2_match_data_free(data); }
};

SplitPattern::SplitPattern() = default;
SplitPattern::SplitPattern(SplitPattern&&) = default;
SplitPattern& SplitPattern::operator=(SplitPattern&&) = default;
SplitPattern::~SplitPattern() = default;

SplitPattern::Scratch::Scratch(const SplitPattern& pattern) {
  if (pattern.code_ == nullptr) return;
  match_ = std::make_unique<Match>();
  match_->data = pcre2_match_data_create_from_pattern(pattern.code_->code, nullptr);
  MAMBAD_CHECK(match_->data != nullptr);
}

SplitPattern::Scratch::~Scratch() = default;

absl::StatusOr<SplitPattern> SplitPattern::Literal(std::string_view literal) {
  if (literal.empty() || literal.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("must have 1 to ", kMaxPatternBytes, " bytes"));
  }
  SplitPattern pattern;
  pattern.literal_ = literal;
  return pattern;
}

absl::StatusOr<SplitPattern> SplitPattern::Regex(std::string_view pattern) {
  if (pattern.empty() || pattern.size() > kMaxPatternBytes) {
    return absl::InvalidArgumentError(absl::StrCat("must have 1 to ", kMaxPatternBytes, " bytes"));
  }
  MAMBAD_RETURN_IF_ERROR(CheckPatternSubset(pattern));
  SplitPattern compiled;
  compiled.code_ = std::make_unique<Code>();
  pcre2_compile_context* context = pcre2_compile_context_create(nullptr);
  MAMBAD_CHECK(context != nullptr);
  pcre2_set_newline(context, PCRE2_NEWLINE_LF);
  int error = 0;
  PCRE2_SIZE error_at = 0;
  compiled.code_->code = pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                                       PCRE2_UTF | PCRE2_UCP, &error, &error_at, context);
  pcre2_compile_context_free(context);
  if (compiled.code_->code == nullptr) {
    return absl::InvalidArgumentError(
        absl::StrCat("is refused at byte ", error_at, ": ", PcreMessage(error)));
  }
  // Without JIT (not built in, or no executable memory) the interpreter gives the same matches.
  pcre2_jit_compile(compiled.code_->code, PCRE2_JIT_COMPLETE);
  compiled.code_->limits = pcre2_match_context_create(nullptr);
  MAMBAD_CHECK(compiled.code_->limits != nullptr);
  pcre2_set_match_limit(compiled.code_->limits, kMaxMatchSteps);
  pcre2_set_heap_limit(compiled.code_->limits, kMaxMatchHeapKib);
  return compiled;
}

absl::Status SplitPattern::FindAll(std::string_view text, Scratch* scratch,
                                   std::vector<Span>* matches) const {
  matches->clear();
  if (code_ == nullptr) {
    for (size_t at = text.find(literal_); at != std::string_view::npos; at = text.find(literal_, at)) {
      matches->push_back({at, at + literal_.size()});
      at += literal_.size();
    }
    return absl::OkStatus();
  }
  const std::string_view subject = WithStandIns(text, &scratch->stand_in_);
  size_t at = 0;
  bool follows_match = false;  // a match ended at `at`: an empty one there does not count
  while (at <= subject.size()) {
    const auto match = [&](uint32_t options) {
      return pcre2_match(code_->code, reinterpret_cast<PCRE2_SPTR>(subject.data()), subject.size(), at,
                         options, scratch->match_->data, code_->limits);
    };
    int result = match(PCRE2_NO_UTF_CHECK);
    if (result == PCRE2_ERROR_JIT_STACKLIMIT) result = match(PCRE2_NO_UTF_CHECK | PCRE2_NO_JIT);
    if (result == PCRE2_ERROR_NOMATCH) break;
    if (result < 0) {
      return absl::InvalidArgumentError(
          absl::StrCat("the text cannot be split by the tokenizer's pattern: ", PcreMessage(result)));
    }
    const PCRE2_SIZE* found = pcre2_get_ovector_pointer(scratch->match_->data);
    const Span span = {found[0], found[1]};
    if (span.begin == span.end && follows_match && span.begin == at) {
      if (at == subject.size()) break;
      at += CodePointAt(subject, at).bytes;
      follows_match = false;
      continue;
    }
    matches->push_back(span);
    at = span.end;
    follows_match = true;
  }
  return absl::OkStatus();
}

}  // namespace mambad
