#include "engine/stats.h"

#include <algorithm>

namespace mambad {

Histogram::Histogram(const std::vector<double>* bounds_in)
    : bounds(bounds_in), buckets(bounds_in->size() + 1, 0) {}

void Histogram::Observe(double value, uint64_t times) {
  const size_t bucket = std::lower_bound(bounds->begin(), bounds->end(), value) - bounds->begin();
  buckets[bucket] += times;
  sum += value * static_cast<double>(times);
  count += times;
}

const std::vector<double>& LatencyBounds() {
  // Below 10 ms finer than OpenTelemetry's GenAI buckets, because a Mamba token takes well under a
  // millisecond; from there on theirs (0.01 to 81.92 doubling, and those of time per output token).
  static const auto* bounds = new std::vector<double>{
      0.0001, 0.00025, 0.0005, 0.001, 0.0015, 0.002, 0.003, 0.005, 0.0075, 0.01,  0.02,  0.025, 0.04, 0.05,
      0.06,   0.075,   0.08,   0.1,   0.15,   0.16,  0.2,   0.25,  0.3,    0.32,  0.4,   0.5,   0.64, 0.75,
      1.0,    1.28,    2.5,    2.56,  5.0,    5.12,  7.5,   10.0,  10.24,  20.48, 40.96, 81.92};
  return *bounds;
}

const std::vector<double>& RowBounds() {
  static const auto* bounds = new std::vector<double>{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};
  return *bounds;
}

const char* FinishReasonName(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return "EOS";
    case FinishReason::kStopToken:
      return "STOP_TOKEN";
    case FinishReason::kStopSequence:
      return "STOP_SEQUENCE";
    case FinishReason::kLength:
      return "LENGTH";
  }
  return "unknown";
}

const char* SessionStateName(SessionState state) {
  switch (state) {
    case SessionState::kIdle:
      return "IDLE";
    case SessionState::kWaiting:
      return "WAITING";
    case SessionState::kPrefilling:
      return "PREFILLING";
    case SessionState::kDecoding:
      return "DECODING";
    case SessionState::kPaused:
      return "PAUSED";
  }
  return "unknown";
}

}  // namespace mambad
