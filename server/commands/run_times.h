// RunTimes: where the wall time of one generation goes: up to its first token, and from there to its end.
//
// Threads: one.
#ifndef MAMBAD_SERVER_COMMANDS_RUN_TIMES_H_
#define MAMBAD_SERVER_COMMANDS_RUN_TIMES_H_

#include <cstdint>

#include "server/commands/prefill_times.h"

namespace mambad {

class RunTimes {
 public:
  explicit RunTimes(uint64_t prompt_tokens) : prefill_(prompt_tokens) {}

  // `seconds` have gone by since the last call, in which `prompt_tokens` were read; `has_output`: by now.
  void Add(uint64_t prompt_tokens, bool has_output, double seconds) {
    if (has_output_) {
      decode_s_ += seconds;
    } else {
      prefill_.Add(prompt_tokens, seconds);
    }
    has_output_ = has_output;
  }

  const PrefillTimes& prefill() const { return prefill_; }
  double decode_s() const { return decode_s_; }

 private:
  PrefillTimes prefill_;
  bool has_output_ = false;
  double decode_s_ = 0;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_COMMANDS_RUN_TIMES_H_
