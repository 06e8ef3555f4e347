// WallTimer: real time since it was made, for rates, paces and histograms: they change when something is
// computed, never what. Deadlines go by the argument of Tick.
#ifndef MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_
#define MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_

#include <chrono>
#include <functional>

#include "absl/time/time.h"

namespace mambad {

// Time since some moment; never goes back.
using WallClock = std::function<absl::Duration()>;

inline absl::Duration SteadyTime() {
  return absl::FromChrono(std::chrono::steady_clock::now().time_since_epoch());
}

class WallTimer {
 public:
  explicit WallTimer(const WallClock& clock) : clock_(&clock), start_(clock()) {}
  absl::Duration Elapsed() const { return (*clock_)() - start_; }

 private:
  const WallClock* clock_;
  absl::Duration start_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_WALL_TIMER_H_
