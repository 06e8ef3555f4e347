// The engine's ledger: every count that health, /metrics and GetServerInfo report, kept in one place and
// copied as one consistent whole. At every copy: accepted = finished + running + waiting.
#ifndef MAMBAD_ENGINE_STATS_H_
#define MAMBAD_ENGINE_STATS_H_

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "engine/request.h"
#include "engine/session_verbs.h"
#include "engine/token_event.h"

namespace mambad {

inline constexpr int kStatusCodeCount = 17;  // the canonical codes

// Fixed-bucket histogram. buckets[i] counts values <= bounds[i] and above bounds[i-1]; one more for the rest.
struct Histogram {
  const std::vector<double>* bounds = nullptr;  // ascending, static storage
  std::vector<uint64_t> buckets;                // bounds->size() + 1
  double sum = 0;
  uint64_t count = 0;

  explicit Histogram(const std::vector<double>* bounds_in);
  void Observe(double value, uint64_t times = 1);
};

const std::vector<double>& LatencyBounds();  // seconds; a superset of OpenTelemetry's GenAI buckets
const std::vector<double>& RowBounds();      // 1, 2, 4, ..., 512

struct MemoryAddend {
  std::string name;
  uint64_t bytes = 0;
};

// One copy of the ledger.
struct EngineStats {
  using ByMethodAndCode = std::array<std::array<uint64_t, kStatusCodeCount>, kMethodCount>;

  uint64_t requests_accepted = 0;
  uint64_t requests_running = 0;  // paused included
  uint64_t requests_waiting = 0;
  ByMethodAndCode requests_finished{};  // accepted ones, by their end
  ByMethodAndCode requests_rejected{};  // never accepted
  std::array<uint64_t, kFinishReasonCount> generations_finished{};
  uint64_t prompt_tokens = 0;
  uint64_t cached_prompt_tokens = 0;
  uint64_t generation_tokens = 0;
  std::array<uint64_t, kSessionStateCount> sessions{};
  uint64_t state_slots = 0;
  uint64_t state_slots_used = 0;
  uint64_t state_bytes_used = 0;

  Histogram time_to_first_token{&LatencyBounds()};
  Histogram inter_token_latency{&LatencyBounds()};
  Histogram request_duration{&LatencyBounds()};
  Histogram queue_time{&LatencyBounds()};
  Histogram tick_decode{&LatencyBounds()};
  Histogram tick_prefill{&LatencyBounds()};
  Histogram batch_rows{&RowBounds()};
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_STATS_H_
