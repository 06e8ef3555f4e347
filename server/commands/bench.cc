// mambad bench: the engine's speed on one machine, as a fraction of the memory's.
//
// For each batch size: one prompt is read (prefill), then `batch` sequences that continue it decode side by
// side, head and sampling (greedy unless flags say otherwise) included. A step that decodes fewer rows, or
// reads a prompt beside them, is not counted.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "absl/time/clock.h"
#include "engine/device_info.h"
#include "engine/token_sink.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/commands/commands.h"
#include "server/commands/local_engine.h"
#include "server/exit_code.h"
#include "server/progress.h"

namespace mambad {
namespace {

constexpr uint32_t kWarmUpSteps = 8;

constexpr uint32_t kCandidatesMax = 128;  // of one request
constexpr uint32_t kBatchMax = 4096;
constexpr size_t kSinkCapacity = 4 * kCandidatesMax;

struct BenchOptions {
  ModelOptions model;
  std::string batch = "1,8,64";
  uint32_t prompt_tokens = 512;
  uint32_t output_tokens = 128;
  double temperature = 0;
  double top_p = 1;
  bool json = false;
};

absl::StatusOr<std::vector<uint32_t>> ParseBatches(const std::string& text) {
  std::vector<uint32_t> batches;
  for (const absl::string_view piece : absl::StrSplit(text, ',')) {
    uint32_t batch = 0;
    if (!absl::SimpleAtoi(piece, &batch) || batch < 1 || batch > kBatchMax) {
      return absl::InvalidArgumentError(
          absl::StrCat("--batch: expected sizes of 1 to ", kBatchMax, " apart by commas"));
    }
    batches.push_back(batch);
  }
  return batches;
}

// The requests of one batch size, open until cancelled.
class OpenBatch {
 public:
  static absl::StatusOr<OpenBatch> Submit(Engine* engine, uint32_t batch, const BenchOptions& options) {
    OpenBatch open(engine);
    const uint32_t vocab_size = engine->limits().vocab_size;
    for (uint32_t first = 0; first < batch; first += kCandidatesMax) {
      GenerationRequest request;
      for (uint32_t i = 0; i < options.prompt_tokens; ++i) {
        request.prompt.push_back((17 + i * 7919 + first * 104729) % vocab_size);
      }
      request.candidate_count = std::min(batch - first, kCandidatesMax);
      request.sampling.temperature = static_cast<float>(options.temperature);
      request.sampling.top_p = static_cast<float>(options.top_p);
      request.stop.max_output_tokens = 1u << 30;
      request.stop.ignore_eos = true;
      request.output.skip_text = true;
      const auto sink = std::make_shared<TokenSink>(kSinkCapacity, nullptr);
      MAMBAD_ASSIGN_OR_RETURN(const RequestTicket ticket, engine->Submit(std::move(request), sink));
      open.requests_.push_back({ticket, sink});
    }
    return open;
  }

  // Takes the events that wait; the status of a request that ended.
  absl::Status Drain() {
    for (const auto& [ticket, sink] : requests_) {
      while (const std::optional<TokenEvent> event = sink->Pop()) {
        const auto* end = std::get_if<EndEvent>(&*event);
        if (end == nullptr) continue;
        if (!absl::IsCancelled(end->status)) {
          return end->status.ok() ? absl::InternalError("a request ended too early") : end->status;
        }
        ++ended_;
      }
    }
    return absl::OkStatus();
  }

  absl::Status CancelAll() {
    for (const auto& [ticket, sink] : requests_) engine_->Cancel(ticket);
    while (ended_ < requests_.size()) {
      engine_->Tick(absl::Now());
      MAMBAD_RETURN_IF_ERROR(Drain());
    }
    return absl::OkStatus();
  }

 private:
  explicit OpenBatch(Engine* engine) : engine_(engine) {}

  Engine* engine_;
  std::vector<std::pair<RequestTicket, std::shared_ptr<TokenSink>>> requests_;
  size_t ended_ = 0;
};

struct Measured {
  double prefill_tokens_per_s = 0;
  std::vector<double> steps_s;  // of full decode steps
};

absl::StatusOr<Measured> Measure(Engine* engine, uint32_t batch, const BenchOptions& options) {
  Progress progress(absl::StrCat("batch ", batch), "steps");
  MAMBAD_ASSIGN_OR_RETURN(OpenBatch open, OpenBatch::Submit(engine, batch, options));
  Measured measured;
  uint64_t prefill_tokens = 0;
  double prefill_s = 0;
  while (measured.steps_s.size() < options.output_tokens) {
    const absl::Time start = absl::Now();
    const TickReport report = engine->Tick(start);
    MAMBAD_RETURN_IF_ERROR(open.Drain());
    // With what lies between ticks, during which the device goes on.
    const double seconds = absl::ToDoubleSeconds(absl::Now() - start);
    if (report.prompt_tokens > 0 && report.decode_rows == 0) {
      prefill_tokens += report.prompt_tokens;
      prefill_s += seconds;
    } else if (report.decode_rows == batch && report.prompt_tokens == 0) {
      measured.steps_s.push_back(seconds);
      progress.Update(measured.steps_s.size(), options.output_tokens);
    }
  }
  MAMBAD_RETURN_IF_ERROR(open.CancelAll());
  if (prefill_s > 0) measured.prefill_tokens_per_s = static_cast<double>(prefill_tokens) / prefill_s;
  return measured;
}

double Median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

void Report(const Model& model, const BenchOptions& options, uint32_t batch, double roof,
            const Measured& measured) {
  const ModelInfo& info = model.info();
  const double step_s = Median(measured.steps_s);
  double total_s = 0;
  for (const double seconds : measured.steps_s) total_s += seconds;
  const uint64_t bytes = info.decode_weight_bytes + batch * info.embedding_row_bytes +
                         2 * static_cast<uint64_t>(batch) * model.state_layout().bytes;
  const double tokens_per_s = static_cast<double>(batch * measured.steps_s.size()) / total_s;
  const double fraction = static_cast<double>(bytes) / step_s / (roof * 1e9);
  if (!options.json) {
    std::printf("batch %4u  prefill %8.0f tok/s  decode %8.0f tok/s  step %8.3f ms  %3.0f%% of %.1f GB/s\n",
                batch, measured.prefill_tokens_per_s, tokens_per_s, step_s * 1e3, fraction * 100, roof);
  } else {
    const nlohmann::ordered_json line = {{"model", options.model.model},
                                         {"device", DescribeDevice(model).kind},
                                         {"precision", info.precision},
                                         {"state_dtype", info.state_dtype},
                                         {"batch", batch},
                                         {"prompt_tokens", options.prompt_tokens},
                                         {"prefill_tokens_per_s", measured.prefill_tokens_per_s},
                                         {"decode_step_ms_p50", step_s * 1e3},
                                         {"decode_tokens_per_s", tokens_per_s},
                                         {"bytes_per_step", bytes},
                                         {"roof_gb_per_s", roof},
                                         {"fraction_of_roof", fraction}};
    std::printf("%s\n", line.dump().c_str());
  }
  std::fflush(stdout);
}

absl::Status Bench(const BenchOptions& options) {
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<uint32_t> batches, ParseBatches(options.batch));
  const uint32_t largest = *std::max_element(batches.begin(), batches.end());
  MAMBAD_ASSIGN_OR_RETURN(const std::unique_ptr<LocalEngine> local,
                          LocalEngine::Create(options.model, std::max(largest, 2u)));
  const Model& model = local->engine().model();
  MAMBAD_ASSIGN_OR_RETURN(const double roof, MeasureRoof(model));
  for (const uint32_t batch : batches) {
    // A GPU's clocks and caches need a first pass, and it costs next to nothing there.
    if (DescribeDevice(model).kind == "cuda") {
      BenchOptions warm_up = options;
      warm_up.output_tokens = kWarmUpSteps;
      MAMBAD_RETURN_IF_ERROR(Measure(&local->engine(), batch, warm_up).status());
    }
    MAMBAD_ASSIGN_OR_RETURN(const Measured measured, Measure(&local->engine(), batch, options));
    Report(model, options, batch, roof, measured);
  }
  return absl::OkStatus();
}

}  // namespace

Command AddBench(CLI::App* app) {
  const auto options = std::make_shared<BenchOptions>();
  CLI::App* bench = app->add_subcommand("bench", "Measure prefill and decode, here and now");
  AddModelOptions(bench, &options->model);
  bench->add_option("--batch", options->batch, "Batch sizes, apart by commas")->capture_default_str();
  bench->add_option("--prompt-tokens", options->prompt_tokens, "Tokens of the prompt")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  bench->add_option("--output-tokens", options->output_tokens, "Decode steps to measure")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  bench->add_option("--temperature", options->temperature, "Of the draws; 0: greedy")
      ->check(CLI::Range(0.0, 100.0))
      ->capture_default_str();
  bench->add_option("--top-p", options->top_p, "Of the draws")
      ->check(CLI::Range(1e-6, 1.0))
      ->capture_default_str();
  bench->add_flag("--json", options->json, "Print one JSON object per batch size");
  return {.app = bench, .run = [options] {
            const absl::Status status = Bench(*options);
            return status.ok() ? kExitOk : FailWith(status);
          }};
}

}  // namespace mambad
