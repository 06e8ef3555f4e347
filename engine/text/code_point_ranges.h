// Sorted tables of code points.
#ifndef MAMBAD_ENGINE_TEXT_CODE_POINT_RANGES_H_
#define MAMBAD_ENGINE_TEXT_CODE_POINT_RANGES_H_

#include <algorithm>
#include <span>

namespace mambad {

// Inclusive.
struct CodePointRange {
  char32_t first, last;
};

// `ranges` ascend and do not overlap.
inline bool IsInRanges(char32_t c, std::span<const CodePointRange> ranges) {
  const auto range = std::lower_bound(ranges.begin(), ranges.end(), c,
                                      [](const CodePointRange& r, char32_t x) { return r.last < x; });
  return range != ranges.end() && range->first <= c;
}

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_CODE_POINT_RANGES_H_
