// How the time of a prompt's reading is spread over the prompt: seconds of each tenth of its tokens.
//
// Threads: one.
#ifndef MAMBAD_SERVER_COMMANDS_PREFILL_TIMES_H_
#define MAMBAD_SERVER_COMMANDS_PREFILL_TIMES_H_

#include <algorithm>
#include <array>
#include <cstdint>
#include <utility>

namespace mambad {

class PrefillTimes {
 public:
  static constexpr uint64_t kParts = 10;

  explicit PrefillTimes(uint64_t prompt_tokens) : prompt_tokens_(prompt_tokens) {}

  // The next `tokens` took `seconds`, and those of calls without any before; time within them counts as even.
  void Add(uint64_t tokens, double seconds) {
    seconds_ += seconds;
    waited_ += seconds;
    if (tokens == 0) return;
    seconds = std::exchange(waited_, 0);
    for (uint64_t left = tokens; left > 0;) {
      while (part_ + 1 < kParts && done_ >= EndOf(part_)) ++part_;
      const uint64_t piece = part_ + 1 < kParts ? std::min(left, EndOf(part_) - done_) : left;
      tenths_[part_] += seconds * static_cast<double>(piece) / static_cast<double>(tokens);
      done_ += piece;
      left -= piece;
    }
  }

  double seconds() const { return seconds_; }
  const std::array<double, kParts>& tenths() const { return tenths_; }

 private:
  uint64_t EndOf(uint64_t part) const { return prompt_tokens_ * (part + 1) / kParts; }

  const uint64_t prompt_tokens_;
  uint64_t done_ = 0;
  uint64_t part_ = 0;
  double seconds_ = 0;
  double waited_ = 0;  // of them, for the tokens that come next
  std::array<double, kParts> tenths_{};
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_COMMANDS_PREFILL_TIMES_H_
