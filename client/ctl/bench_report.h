// The arithmetic of mambactl bench: from the arrival times of tokens to its figures.
#ifndef MAMBAD_CLIENT_CTL_BENCH_REPORT_H_
#define MAMBAD_CLIENT_CTL_BENCH_REPORT_H_

#include <optional>
#include <string>
#include <vector>

#include "client/ctl/json.h"

namespace mambad::ctl {

// One stream's life; all times in seconds on one clock.
struct StreamTimes {
  struct Arrival {
    double time;
    int tokens;  // that came together
  };
  double start = 0;
  double end = 0;
  std::vector<Arrival> arrivals;
  bool failed = false;
};

// The nearest-rank percentiles of a sample; nothing when it is empty.
struct Percentiles {
  double p50, p90, p99;
};
std::optional<Percentiles> PercentilesOf(std::vector<double> sample);

struct BenchReport {
  int streams = 0;
  int errors = 0;
  std::optional<Percentiles> ttft_ms;
  std::optional<Percentiles> itl_ms;  // tokens that come together share the gap before them
  // From the last stream's first token to the first stream's end, when all streams are decoding; nothing when
  // there is no such time.
  std::optional<double> output_tokens_per_s;

  // Failed streams count as errors alone.
  static BenchReport Of(const std::vector<StreamTimes>& streams);

  // {"streams", "ttft_ms": {"p50", "p90", "p99"}, "itl_ms", "output_tokens_per_s", "errors"}; null where
  // nothing was measured.
  Json ToJson() const;
  // The same for a person.
  std::string ToText() const;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_BENCH_REPORT_H_
