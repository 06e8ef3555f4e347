#include "server/metrics.h"

#include <initializer_list>
#include <sstream>
#include <utility>

#include "absl/status/status.h"
#include "engine/device_info.h"
#include "engine/stats.h"
#include "prometheus/text_serializer.h"
#include "server/version.h"

namespace mambad {
namespace {

using prometheus::ClientMetric;
using prometheus::MetricFamily;
using prometheus::MetricType;
using Label = ClientMetric::Label;

// Collects families that all carry the model's name.
class FamilyWriter {
 public:
  FamilyWriter(std::string model_name, std::vector<MetricFamily>* families)
      : model_name_(std::move(model_name)), families_(families) {}

  void Begin(const char* name, MetricType type, const char* help) {
    families_->push_back({.name = name, .help = help, .type = type, .metric = {}});
  }
  void Gauge(double value, std::initializer_list<Label> labels = {}) { Add(labels).gauge.value = value; }
  void Counter(uint64_t value, std::initializer_list<Label> labels = {}) {
    Add(labels).counter.value = static_cast<double>(value);
  }
  void Observed(const Histogram& histogram, std::initializer_list<Label> labels = {}) {
    ClientMetric::Histogram& out = Add(labels).histogram;
    out.sample_count = histogram.count;
    out.sample_sum = histogram.sum;
    uint64_t cumulative = 0;
    for (size_t i = 0; i < histogram.bounds->size(); ++i) {
      cumulative += histogram.buckets[i];
      out.bucket.push_back({.cumulative_count = cumulative, .upper_bound = (*histogram.bounds)[i]});
    }
  }

  void OneGauge(const char* name, const char* help, uint64_t value) {
    Begin(name, MetricType::Gauge, help);
    Gauge(static_cast<double>(value));
  }
  void OneCounter(const char* name, const char* help, uint64_t value) {
    Begin(name, MetricType::Counter, help);
    Counter(value);
  }
  void OneHistogram(const char* name, const char* help, const Histogram& histogram) {
    Begin(name, MetricType::Histogram, help);
    Observed(histogram);
  }

 private:
  ClientMetric& Add(std::initializer_list<Label> labels) {
    ClientMetric& metric = families_->back().metric.emplace_back();
    metric.label.push_back({.name = "model_name", .value = model_name_});
    metric.label.insert(metric.label.end(), labels.begin(), labels.end());
    return metric;
  }

  const std::string model_name_;
  std::vector<MetricFamily>* const families_;
};

std::string CodeName(int code) { return absl::StatusCodeToString(static_cast<absl::StatusCode>(code)); }

// Every method with the codes that occurred, and with `always`, so that a rate exists before the first one.
void WriteByMethodAndCode(const EngineStats::ByMethodAndCode& counts, absl::StatusCode always,
                          FamilyWriter* writer) {
  for (int method = 0; method < kMethodCount; ++method) {
    for (int code = 0; code < kStatusCodeCount; ++code) {
      const uint64_t count = counts[method][code];
      if (count == 0 && code != static_cast<int>(always)) continue;
      writer->Counter(count, {{"method", MethodName(static_cast<Method>(method))}, {"code", CodeName(code)}});
    }
  }
}

void WriteRequests(const EngineStats& stats, FamilyWriter* writer) {
  writer->OneGauge("mambad_requests_running", "Admitted requests, paused ones included.",
                   stats.requests_running);
  writer->OneGauge("mambad_requests_waiting", "Accepted requests that wait for a state slot.",
                   stats.requests_waiting);
  writer->OneCounter("mambad_requests_accepted_total", "Requests that the engine accepted.",
                     stats.requests_accepted);
  writer->Begin("mambad_requests_finished_total", MetricType::Counter,
                "Accepted requests that ended, by method and status code.");
  WriteByMethodAndCode(stats.requests_finished, absl::StatusCode::kOk, writer);
  writer->Begin("mambad_requests_rejected_total", MetricType::Counter,
                "Requests that were never accepted, by method and status code.");
  WriteByMethodAndCode(stats.requests_rejected, absl::StatusCode::kResourceExhausted, writer);
  writer->Begin("mambad_generations_finished_total", MetricType::Counter,
                "Candidates that ended by themselves, by reason.");
  for (int reason = 0; reason < kFinishReasonCount; ++reason) {
    writer->Counter(stats.generations_finished[reason],
                    {{"finish_reason", FinishReasonName(static_cast<FinishReason>(reason))}});
  }
}

void WriteTokensAndTimes(const EngineStats& stats, FamilyWriter* writer) {
  writer->OneCounter("mambad_prompt_tokens_total", "Prompt tokens read.", stats.prompt_tokens);
  writer->OneCounter("mambad_cached_prompt_tokens_total",
                     "Prompt tokens whose state was found rather than computed.", stats.cached_prompt_tokens);
  writer->OneCounter("mambad_generation_tokens_total", "Tokens emitted.", stats.generation_tokens);
  writer->OneHistogram("mambad_time_to_first_token_seconds",
                       "From a streaming RPC's arrival to its first delta handed to gRPC.",
                       stats.time_to_first_token);
  writer->OneHistogram("mambad_inter_token_latency_seconds",
                       "Time per token between two deltas of a stream handed to gRPC.",
                       stats.inter_token_latency);
  writer->OneHistogram("mambad_request_duration_seconds", "From a request's arrival to its end.",
                       stats.request_duration);
  writer->OneHistogram("mambad_queue_time_seconds", "From a request's arrival to its admission.",
                       stats.queue_time);
  writer->Begin("mambad_tick_duration_seconds", MetricType::Histogram,
                "Time of the model in one turn of the engine loop, by phase.");
  writer->Observed(stats.tick_decode, {{"phase", "decode"}});
  writer->Observed(stats.tick_prefill, {{"phase", "prefill"}});
  writer->OneHistogram("mambad_batch_rows", "Sequences that one decode step advanced.", stats.batch_rows);
}

void WriteState(const EngineStats& stats, FamilyWriter* writer) {
  writer->Begin("mambad_sessions", MetricType::Gauge, "Sessions by state.");
  for (int state = 0; state < kSessionStateCount; ++state) {
    writer->Gauge(static_cast<double>(stats.sessions[state]),
                  {{"state", SessionStateName(static_cast<SessionState>(state))}});
  }
  writer->OneGauge("mambad_state_slots", "State slots of the pool.", stats.state_slots);
  writer->OneGauge("mambad_state_slots_used", "State slots held by admitted requests and sessions.",
                   stats.state_slots_used);
  writer->Begin("mambad_state_bytes", MetricType::Gauge, "Bytes of the states held, by tier.");
  writer->Gauge(static_cast<double>(stats.state_bytes_used), {{"tier", "device"}});
}

void WriteModelInfo(const Serving& serving, FamilyWriter* writer) {
  const ModelInfo& info = serving.engine->model().info();
  const DeviceInfo device = DescribeDevice(serving.engine->model());
  writer->Begin("mambad_model_info", MetricType::Gauge, "The model being served; always 1.");
  writer->Gauge(1, {{"model_type", info.model_type},
                    {"precision", info.precision},
                    {"digest", info.digest},
                    {"device", device.kind},
                    {"numerics_id", info.numerics_id}});
}

}  // namespace

Metrics::Metrics(const Backend* backend, std::string model_id)
    : backend_(backend), model_id_(std::move(model_id)) {}

std::vector<MetricFamily> Metrics::Collect() const {
  std::vector<MetricFamily> families;
  FamilyWriter writer(model_id_, &families);
  if (const auto serving = backend_->serving(); serving.ok()) {
    const EngineStats stats = (*serving)->engine->Stats();
    WriteRequests(stats, &writer);
    WriteTokensAndTimes(stats, &writer);
    WriteState(stats, &writer);
    WriteModelInfo(**serving, &writer);
  }
  writer.Begin("mambad_build_info", MetricType::Gauge, "The running program; always 1.");
  writer.Gauge(1, {{"version", kVersion}});
  writer.Begin("process_start_time_seconds", MetricType::Gauge, "Start of the process, in Unix time.");
  writer.Gauge(absl::ToDoubleSeconds(backend_->start_time() - absl::UnixEpoch()));
  return families;
}

std::string Metrics::Text() const {
  std::ostringstream out;
  prometheus::TextSerializer().Serialize(out, Collect());
  return out.str();
}

}  // namespace mambad
