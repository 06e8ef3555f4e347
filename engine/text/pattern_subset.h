// Tells whether a regular expression stays inside what Oniguruma and PCRE2 read alike.
#ifndef MAMBAD_ENGINE_TEXT_PATTERN_SUBSET_H_
#define MAMBAD_ENGINE_TEXT_PATTERN_SUBSET_H_

#include <string_view>

#include "absl/status/status.h"

namespace mambad {

// OK, or INVALID_ARGUMENT with the byte position and the kind of the first construct outside the subset that
// split_pattern.h describes. `pattern` is UTF-8.
absl::Status CheckPatternSubset(std::string_view pattern);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_PATTERN_SUBSET_H_
