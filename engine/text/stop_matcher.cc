#include "engine/text/stop_matcher.h"

#include <algorithm>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/text/utf8.h"

namespace mambad {
namespace {

std::vector<uint16_t> Borders(std::string_view stop) {
  std::vector<uint16_t> border(stop.size(), 0);
  for (size_t i = 1; i < stop.size(); ++i) {
    uint16_t length = border[i - 1];
    while (length > 0 && stop[i] != stop[length]) length = border[length - 1];
    border[i] = stop[i] == stop[length] ? length + 1 : 0;
  }
  return border;
}

}  // namespace

StopMatcher::StopMatcher(std::vector<Pattern> patterns, bool include_stop)
    : patterns_(std::move(patterns)), include_stop_(include_stop) {}

absl::StatusOr<StopMatcher> StopMatcher::Create(std::vector<std::string> stops, bool include_stop) {
  if (stops.size() > kMaxStops) {
    return absl::InvalidArgumentError(
        absl::StrCat("stop_sequences: at most ", kMaxStops, " are allowed, not ", stops.size()));
  }
  std::vector<Pattern> patterns;
  for (size_t i = 0; i < stops.size(); ++i) {
    const std::string& stop = stops[i];
    if (stop.empty() || stop.size() > kMaxStopBytes) {
      return absl::InvalidArgumentError(absl::StrCat("stop_sequences[", i, "]: must have 1 to ",
                                                     kMaxStopBytes, " bytes, not ", stop.size()));
    }
    if (!IsValidUtf8(stop)) {
      return absl::InvalidArgumentError(absl::StrCat("stop_sequences[", i, "]: is not valid UTF-8"));
    }
    std::vector<uint16_t> border = Borders(stop);
    patterns.push_back({std::move(stops[i]), std::move(border)});
  }
  return StopMatcher(std::move(patterns), include_stop);
}

StopMatcher::Result StopMatcher::Push(std::string_view text) { return Scan(text, /*may_match=*/true); }

std::string StopMatcher::PushUnmatched(std::string_view text) { return Scan(text, /*may_match=*/false).text; }

std::string StopMatcher::Flush() {
  matched_ = false;
  for (Pattern& pattern : patterns_) pattern.progress = 0;
  return std::exchange(held_, {});
}

bool StopMatcher::Pattern::Advance(char byte) {
  while (progress > 0 && stop[progress] != byte) progress = border[progress - 1];
  if (stop[progress] == byte) ++progress;
  if (progress < stop.size()) return false;
  progress = border.back();
  return true;
}

StopMatcher::Result StopMatcher::Scan(std::string_view text, bool may_match) {
  Result result;
  if (matched_) return result;
  const size_t first_new = held_.size();
  held_.append(text);
  for (size_t i = first_new; i < held_.size(); ++i) {
    size_t longest = 0;
    for (size_t p = 0; p < patterns_.size(); ++p) {
      Pattern& pattern = patterns_[p];
      if (pattern.Advance(held_[i]) && may_match && pattern.stop.size() > longest) {
        longest = pattern.stop.size();
        result.matched_index = p;
      }
    }
    if (result.matched_index) {
      result.text = held_.substr(0, i + 1 - (include_stop_ ? 0 : longest));
      held_.clear();
      matched_ = true;
      return result;
    }
  }
  size_t keep = 0;
  for (const Pattern& pattern : patterns_) keep = std::max<size_t>(keep, pattern.progress);
  result.text = held_.substr(0, held_.size() - keep);
  held_.erase(0, held_.size() - keep);
  return result;
}

}  // namespace mambad
