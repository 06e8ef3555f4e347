// Finds stop strings in streamed text and never lets a part of one out.
#ifndef MAMBAD_ENGINE_TEXT_STOP_MATCHER_H_
#define MAMBAD_ENGINE_TEXT_STOP_MATCHER_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mambad {

// Which match wins: the text is read byte by byte, and the first stop string to become complete ends it; of
// several that end at the same byte, the longest. So the result does not depend on how the text was cut into
// pushes. With "abc" and "b", the text "abc" therefore ends as "a": waiting for the longer one would delay
// every stop.
//
// Push whole UTF-8 (as a Detokenizer gives it) and every emitted piece is whole UTF-8. Copyable; not
// synchronized.
class StopMatcher {
 public:
  static constexpr size_t kMaxStops = 16;
  static constexpr size_t kMaxStopBytes = 256;

  struct Result {
    std::string text;                     // may be sent now
    std::optional<size_t> matched_index;  // the stop string that ended the text: its place in `stops`
  };

  // Matches nothing: every Push gives its text back.
  StopMatcher() = default;

  // `include_stop`: the stop string that matched is emitted too. INVALID_ARGUMENT naming stop_sequences: more
  // than kMaxStops, an empty one, one longer than kMaxStopBytes, or one that is not UTF-8. Of equal ones the
  // first wins.
  static absl::StatusOr<StopMatcher> Create(std::vector<std::string> stops, bool include_stop);

  // Takes the next piece of the text. After a match nothing is emitted any more, whatever is pushed.
  Result Push(std::string_view text);

  // The same for text in which no match may end (min_output_tokens): a stop string that becomes complete in
  // it is text like any other, one that begins in it may match later.
  std::string PushUnmatched(std::string_view text);

  // The end of the text: what was held back, which became no stop string. Ready for a new text afterwards.
  std::string Flush();

  bool matched() const { return matched_; }
  // Bytes held back: less than the longest stop string.
  size_t held_bytes() const { return held_.size(); }

 private:
  // One stop string with its Knuth-Morris-Pratt borders, and how much of it the text ends with.
  struct Pattern {
    std::string stop;
    std::vector<uint16_t> border;  // border[i]: the longest proper border of the first i + 1 bytes
    uint16_t progress = 0;

    // Takes the next byte of the text; whether it completes the stop string.
    bool Advance(char byte);
  };

  StopMatcher(std::vector<Pattern> patterns, bool include_stop);

  Result Scan(std::string_view text, bool may_match);

  std::vector<Pattern> patterns_;
  bool include_stop_ = false;
  bool matched_ = false;
  std::string held_;  // the longest end of the text that begins a stop string
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_STOP_MATCHER_H_
