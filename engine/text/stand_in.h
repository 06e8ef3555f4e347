// Bridges Unicode 14 (PCRE2 10.42) to Unicode 15 for matching.
#ifndef MAMBAD_ENGINE_TEXT_STAND_IN_H_
#define MAMBAD_ENGINE_TEXT_STAND_IN_H_

#include <string>
#include <string_view>

namespace mambad {

// `text` with each code point that Unicode 15.0 added replaced by one of Unicode 14 that has the same general
// category and as many bytes, so that matches found in it lie at the same places; and U+180E, which PCRE2
// alone takes for white space, by a zero width space. The text itself if it has none of them, else `*buffer`.
std::string_view WithStandIns(std::string_view text, std::string* buffer);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_STAND_IN_H_
