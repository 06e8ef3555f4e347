// WallTimer: real time since it was made, for rates and histograms alone: what the loop decides by comes as
// an argument of Tick.
#ifndef MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_
#define MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_

#include <chrono>

#include "absl/time/time.h"

namespace mambad {

class WallTimer {
 public:
  absl::Duration Elapsed() const { return absl::FromChrono(std::chrono::steady_clock::now() - start_); }

 private:
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_
