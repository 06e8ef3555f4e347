#include "client/ctl/bench_report.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"

namespace mambad::ctl {
namespace {

constexpr double kMsPerSecond = 1000;

Json PercentilesJson(const std::optional<Percentiles>& percentiles) {
  if (!percentiles.has_value()) return {{"p50", nullptr}, {"p90", nullptr}, {"p99", nullptr}};
  return {{"p50", percentiles->p50}, {"p90", percentiles->p90}, {"p99", percentiles->p99}};
}

std::string PercentilesText(const char* name, const std::optional<Percentiles>& percentiles) {
  if (!percentiles.has_value()) return absl::StrFormat("%-8s not measured\n", name);
  return absl::StrFormat("%-8s p50 %.2f ms   p90 %.2f ms   p99 %.2f ms\n", name, percentiles->p50,
                         percentiles->p90, percentiles->p99);
}

// Tokens per second while every stream has begun and none has ended.
std::optional<double> RateOf(const std::vector<const StreamTimes*>& streams) {
  double begin = -std::numeric_limits<double>::infinity();
  double end = std::numeric_limits<double>::infinity();
  for (const StreamTimes* stream : streams) {
    begin = std::max(begin, stream->arrivals.front().time);
    end = std::min(end, stream->end);
  }
  if (streams.empty() || end <= begin) return std::nullopt;
  int64_t tokens = 0;
  for (const StreamTimes* stream : streams) {
    for (const StreamTimes::Arrival& arrival : stream->arrivals) {
      if (arrival.time > begin && arrival.time <= end) tokens += arrival.tokens;
    }
  }
  return static_cast<double>(tokens) / (end - begin);
}

}  // namespace

std::optional<Percentiles> PercentilesOf(std::vector<double> sample) {
  if (sample.empty()) return std::nullopt;
  std::sort(sample.begin(), sample.end());
  const auto at = [&](double fraction) {
    const auto rank = static_cast<size_t>(std::ceil(fraction * static_cast<double>(sample.size())));
    return sample[std::max<size_t>(rank, 1) - 1];
  };
  return Percentiles{at(0.50), at(0.90), at(0.99)};
}

BenchReport BenchReport::Of(const std::vector<StreamTimes>& streams) {
  BenchReport report;
  report.streams = static_cast<int>(streams.size());
  std::vector<const StreamTimes*> good;
  std::vector<double> ttft;
  std::vector<double> itl;
  for (const StreamTimes& stream : streams) {
    if (stream.failed || stream.arrivals.empty()) {
      ++report.errors;
      continue;
    }
    good.push_back(&stream);
    ttft.push_back((stream.arrivals.front().time - stream.start) * kMsPerSecond);
    for (size_t i = 1; i < stream.arrivals.size(); ++i) {
      const int tokens = std::max(stream.arrivals[i].tokens, 1);
      const double gap = (stream.arrivals[i].time - stream.arrivals[i - 1].time) * kMsPerSecond;
      itl.insert(itl.end(), static_cast<size_t>(tokens), gap / tokens);
    }
  }
  report.ttft_ms = PercentilesOf(std::move(ttft));
  report.itl_ms = PercentilesOf(std::move(itl));
  report.output_tokens_per_s = RateOf(good);
  return report;
}

Json BenchReport::ToJson() const {
  return {{"streams", streams},
          {"ttft_ms", PercentilesJson(ttft_ms)},
          {"itl_ms", PercentilesJson(itl_ms)},
          {"output_tokens_per_s", output_tokens_per_s.has_value() ? Json(*output_tokens_per_s) : Json()},
          {"errors", errors}};
}

std::string BenchReport::ToText() const {
  std::string text = absl::StrFormat("streams  %d, %d errors\n", streams, errors);
  absl::StrAppend(&text, PercentilesText("ttft", ttft_ms), PercentilesText("itl", itl_ms));
  if (output_tokens_per_s.has_value()) {
    absl::StrAppendFormat(&text, "output   %.1f tokens/s\n", *output_tokens_per_s);
  } else {
    absl::StrAppend(&text,
                    "output   not measured: at no time were all streams decoding (more --output-tokens?)\n");
  }
  return text;
}

}  // namespace mambad::ctl
