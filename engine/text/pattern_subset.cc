#include "engine/text/pattern_subset.h"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <vector>

#include "absl/strings/ascii.h"
#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace mambad {
namespace {

constexpr size_t kMaxGroupDepth = 100;

bool IsGeneralCategory(std::string_view name) {
  for (const std::string_view category :
       {"L",  "Lu", "Ll", "Lt", "Lm", "Lo", "M",  "Mn", "Mc", "Me", "N", "Nd", "Nl", "No", "P",  "Pc", "Pd",
        "Ps", "Pe", "Pi", "Pf", "Po", "S",  "Sm", "Sc", "Sk", "So", "Z", "Zs", "Zl", "Zp", "Cc", "Cf"}) {
    if (name == category) return true;
  }
  return false;
}

// Pairs whose ligature or sharp s Oniguruma would match under (?i:, and PCRE2 would not.
bool FoldsTogether(char32_t first, char32_t second) {
  const auto lower = [](char32_t c) { return c < 0x80 ? static_cast<char32_t>(absl::ascii_tolower(c)) : c; };
  const char32_t a = lower(first), b = lower(second);
  return (a == 's' && (b == 's' || b == 't')) || (a == 'f' && (b == 'f' || b == 'i' || b == 'l'));
}

class Checker {
 public:
  explicit Checker(std::string_view pattern) : pattern_(pattern) {}

  absl::Status Run() {
    while (at_ < pattern_.size() && error_ == nullptr) Step();
    if (error_ == nullptr && !ignore_case_.empty()) Fail("a group without its end");
    if (error_ == nullptr) return absl::OkStatus();
    return absl::InvalidArgumentError(absl::StrCat("has ", error_, " at byte ", error_at_));
  }

 private:
  bool Take(std::string_view token) {
    if (pattern_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }

  void Fail(const char* what) {
    if (error_ != nullptr) return;
    error_ = what;
    error_at_ = std::min(at_, pattern_.size());
  }

  bool IgnoresCase() const { return !ignore_case_.empty() && ignore_case_.back(); }

  void Step() {
    const char c = pattern_[at_];
    if (c == '(') return OpenGroup();
    if (c == '*' || c == '+' || c == '?' || c == '{') return Quantifier();
    previous_literal_ = c == ')' || c == '|' || c == '.' || c == '[' || c == '\\' ? 0 : previous_literal_;
    if (c == '[') {
      Class();
    } else if (c == '\\') {
      Escape();
    } else if (c == ')') {
      if (ignore_case_.empty()) return Fail("an unmatched ')'");
      ignore_case_.pop_back();
      ++at_;
    } else if (c == '|') {
      ++at_;
      repeatable_ = false;
      return;
    } else if (c == '^' || c == '$') {
      return Fail("an anchor");
    } else {
      Literal();
    }
    repeatable_ = true;
  }

  void Literal() {
    const CodePoint literal = CodePointAt(pattern_, at_);
    if (literal.value == '}' || literal.value == ']') return Fail("an unescaped bracket");
    if (IgnoresCase() && literal.value >= 0x80) return Fail("a character beyond ASCII under (?i:");
    if (IgnoresCase() && FoldsTogether(previous_literal_, literal.value)) {
      return Fail("letters with a ligature under (?i:");
    }
    previous_literal_ = pattern_[at_] == '.' ? 0 : literal.value;
    at_ += literal.bytes;
  }

  void OpenGroup() {
    if (ignore_case_.size() >= kMaxGroupDepth) return Fail("too many nested groups");
    bool ignore_case = IgnoresCase();
    ++at_;
    if (Take("?i:")) {
      ignore_case = true;
    } else if (pattern_.substr(at_, 1) == "?" && !Take("?:") && !Take("?=") && !Take("?!") && !Take("?<=") &&
               !Take("?<!") && !Take("?>")) {
      return Fail("an unsupported kind of group");
    }
    ignore_case_.push_back(ignore_case);
    repeatable_ = false;
    previous_literal_ = 0;
  }

  void Quantifier() {
    if (!repeatable_) return Fail("a quantifier that repeats nothing, or a repeated one");
    if (pattern_[at_] == '{') {
      if (!Interval()) return Fail("a '{' that is no {n}, {n,} or {n,m}");
      // Ruby reads {n}+ and {n}? otherwise than Perl.
      if (at_ < pattern_.size() && (pattern_[at_] == '+' || pattern_[at_] == '?'))
        return Fail("a mark after {}");
    } else {
      ++at_;
      if (at_ < pattern_.size() && (pattern_[at_] == '+' || pattern_[at_] == '?')) ++at_;
    }
    repeatable_ = false;
  }

  bool Interval() {
    size_t i = at_ + 1;
    const auto digits = [&] {
      const size_t begin = i;
      while (i < pattern_.size() && absl::ascii_isdigit(pattern_[i])) ++i;
      return i > begin && i - begin <= 4;
    };
    if (!digits()) return false;
    if (i < pattern_.size() && pattern_[i] == ',') {
      ++i;
      if (i < pattern_.size() && pattern_[i] != '}' && !digits()) return false;
    }
    if (i >= pattern_.size() || pattern_[i] != '}') return false;
    at_ = i + 1;
    return true;
  }

  // True if the escape stands for one character, false for a set of them.
  bool Escape() {
    ++at_;
    if (at_ >= pattern_.size()) return Fail("a '\\' at its end"), false;
    const char c = pattern_[at_++];
    if (c == 'p' || c == 'P') {
      const size_t end = pattern_.find('}', at_);
      if (pattern_.substr(at_, 1) != "{" || end == std::string_view::npos ||
          !IsGeneralCategory(pattern_.substr(at_ + 1, end - at_ - 1))) {
        return Fail("a property that is no general category"), false;
      }
      at_ = end + 1;
      return false;
    }
    if (c == 's' || c == 'S' || c == 'd' || c == 'D') return false;
    if (c == 't' || c == 'n' || c == 'r' || c == 'f') return true;
    if (c == 'x') {
      const size_t end = pattern_.find('}', at_);
      if (pattern_.substr(at_, 1) != "{" || end == std::string_view::npos || end - at_ < 2 || end - at_ > 7 ||
          IgnoresCase()) {
        return Fail("an unsupported \\x"), false;
      }
      for (size_t i = at_ + 1; i < end; ++i) {
        if (!absl::ascii_isxdigit(pattern_[i])) return Fail("an unsupported \\x"), false;
      }
      at_ = end + 1;
      return true;
    }
    if (!absl::ascii_ispunct(c)) {
      --at_;
      Fail("an unsupported escape");
    }
    return true;
  }

  void Class() {
    ++at_;
    Take("^");
    bool first = true;
    while (true) {
      if (at_ >= pattern_.size()) return Fail("a class without its end");
      const char c = pattern_[at_];
      if (c == ']') {
        if (first) return Fail("an empty class");
        ++at_;
        return;
      }
      if (c == '[') return Fail("a '[' inside a class");
      if (pattern_.substr(at_, 2) == "&&") return Fail("a class intersection");
      if (c == '-' && !first && pattern_.substr(at_ + 1, 1) != "]")
        return Fail("an unescaped '-' in a class");
      ClassItem();
      if (error_ != nullptr) return;
      first = false;
    }
  }

  // One character, a set, or a range from one character to another.
  void ClassItem() {
    if (!ClassCharacter() || pattern_.substr(at_, 1) != "-" || pattern_.substr(at_, 2) == "-]") return;
    ++at_;
    if (at_ >= pattern_.size() || pattern_[at_] == '[') return Fail("a range without its end");
    if (!ClassCharacter()) Fail("a range that ends in a set");
  }

  bool ClassCharacter() {
    if (pattern_[at_] == '\\') return Escape();
    const CodePoint character = CodePointAt(pattern_, at_);
    if (IgnoresCase() && character.value >= 0x80) return Fail("a character beyond ASCII under (?i:"), false;
    at_ += character.bytes;
    return true;
  }

  std::string_view pattern_;
  size_t at_ = 0;
  const char* error_ = nullptr;
  size_t error_at_ = 0;
  std::vector<bool> ignore_case_;  // one per open group
  bool repeatable_ = false;        // a quantifier may follow
  char32_t previous_literal_ = 0;
};

}  // namespace

absl::Status CheckPatternSubset(std::string_view pattern) { return Checker(pattern).Run(); }

}  // namespace mambad
