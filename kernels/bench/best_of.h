// Timing of one op: the best of several runs, because the roofs are bests too and a best survives a shared
// machine.
#ifndef MAMBAD_KERNELS_BENCH_BEST_OF_H_
#define MAMBAD_KERNELS_BENCH_BEST_OF_H_

#include <algorithm>
#include <chrono>

namespace mambad::kernels {

// Seconds of the fastest run(pass), pass = 0, 1, ...: at least 5 runs and about `budget_seconds` of them.
template <class Run>
double BestOf(double budget_seconds, Run run) {
  using Clock = std::chrono::steady_clock;
  double best = 1e30;
  double spent = 0;
  for (int pass = 0; pass < 5 || spent < budget_seconds; ++pass) {
    const Clock::time_point start = Clock::now();
    run(pass);
    const double seconds = std::chrono::duration<double>(Clock::now() - start).count();
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_BENCH_BEST_OF_H_
