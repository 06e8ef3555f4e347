// mambad run: one generation, streamed to the terminal or as one JSON object.
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/commands/commands.h"
#include "server/commands/local_engine.h"
#include "server/commands/run_times.h"
#include "server/exit_code.h"

namespace mambad {
namespace {

// The state, and the way back of a turn.
constexpr uint32_t kSlots = 2;

struct RunOptions {
  ModelOptions model;
  std::optional<std::string> prompt;
  std::string tokens;
  std::optional<float> temperature;
  std::optional<uint32_t> top_k;
  std::optional<float> top_p;
  std::optional<float> min_p;
  std::optional<float> repetition_penalty;
  float presence_penalty = 0;
  float frequency_penalty = 0;
  std::optional<uint64_t> seed;
  std::optional<uint32_t> max_tokens;
  uint32_t min_tokens = 0;
  std::vector<std::string> stop;
  bool ignore_eos = false;
  bool json = false;
};

absl::StatusOr<GenerationRequest> ToRequest(const RunOptions& options, const GenerationDefaults& defaults,
                                            const Tokenizer* tokenizer) {
  GenerationRequest request;
  if (options.prompt.has_value()) {
    MAMBAD_ASSIGN_OR_RETURN(request.prompt, EncodeText(tokenizer, *options.prompt));
  } else {
    MAMBAD_ASSIGN_OR_RETURN(request.prompt, ParseTokens(options.tokens));
  }
  SamplingParams& sampling = request.sampling;
  const SamplingParams table;
  sampling.temperature = options.temperature.value_or(defaults.temperature.value_or(table.temperature));
  sampling.top_k = options.top_k.value_or(defaults.top_k.value_or(table.top_k));
  sampling.top_p = options.top_p.value_or(defaults.top_p.value_or(table.top_p));
  sampling.min_p = options.min_p.value_or(defaults.min_p.value_or(table.min_p));
  sampling.repetition_penalty =
      options.repetition_penalty.value_or(defaults.repetition_penalty.value_or(table.repetition_penalty));
  sampling.presence_penalty = options.presence_penalty;
  sampling.frequency_penalty = options.frequency_penalty;
  sampling.seed = options.seed;
  StopConditions& stop = request.stop;
  stop.max_output_tokens =
      options.max_tokens.value_or(defaults.max_output_tokens.value_or(stop.max_output_tokens));
  stop.min_output_tokens = options.min_tokens;
  stop.stop_sequences = options.stop;
  stop.ignore_eos = options.ignore_eos;
  request.output.token_ids = true;
  return request;
}

nlohmann::ordered_json ToJson(const Usage& usage) {
  return {{"input_tokens", usage.input_tokens},
          {"cached_input_tokens", usage.cached_input_tokens},
          {"output_tokens", usage.output_tokens},
          {"session_position", usage.session_position}};
}

// What one run said and took.
class RunResult {
 public:
  RunResult(uint64_t prompt_tokens, bool print_text) : times_(prompt_tokens), print_text_(print_text) {}

  void OnEvent(const TokenEvent& event) {
    if (const auto* started = std::get_if<StartedEvent>(&event)) seed_ = started->seed;
    if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
      ids_.insert(ids_.end(), delta->token_ids.begin(), delta->token_ids.end());
      text_ += delta->text;
      if (print_text_ && !delta->text.empty()) {
        std::fwrite(delta->text.data(), 1, delta->text.size(), stdout);
        std::fflush(stdout);
      }
    }
    if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
      reason_ = FinishReasonName(finished->reason);
      usage_ = finished->usage;
    }
  }

  void OnTick(const TickReport& report, double seconds) {
    times_.Add(report.prompt_tokens, !ids_.empty(), seconds);
  }

  nlohmann::ordered_json ToJsonObject() const {
    return {{"text", text_},
            {"token_ids", ids_},
            {"finish_reason", reason_},
            {"usage", ToJson(usage_)},
            {"seed", seed_},
            {"timing",
             {{"prefill_s", times_.prefill().seconds()},
              {"decode_s", times_.decode_s()},
              {"prefill_tenths_s", times_.prefill().tenths()}}}};
  }

  void PrintForPeople(bool has_text) const {
    if (!has_text) {
      for (const uint32_t id : ids_) std::printf("%u ", id);
    }
    std::printf("\n");
    std::fprintf(stderr, "prompt %zu tokens in %.3f s; output %zu tokens in %.3f s (%s)\n",
                 static_cast<size_t>(usage_.input_tokens), times_.prefill().seconds(), ids_.size(),
                 times_.decode_s(), reason_.c_str());
  }

 private:
  RunTimes times_;
  const bool print_text_;
  uint64_t seed_ = 0;
  std::string text_;
  std::vector<uint32_t> ids_;
  std::string reason_;
  Usage usage_;
};

absl::Status Run(const RunOptions& options) {
  if (options.prompt.has_value() == !options.tokens.empty()) {
    return absl::InvalidArgumentError("give one of --prompt and --tokens");
  }
  MAMBAD_ASSIGN_OR_RETURN(const std::unique_ptr<LocalEngine> local,
                          LocalEngine::Create(options.model, kSlots));
  MAMBAD_ASSIGN_OR_RETURN(GenerationRequest request,
                          ToRequest(options, local->defaults(), local->tokenizer()));
  RunResult result(request.prompt.size(), !options.json);
  MAMBAD_RETURN_IF_ERROR(local->Run(
      std::move(request), [&](const TokenEvent& event) { result.OnEvent(event); },
      [&](const TickReport& report, double seconds) { result.OnTick(report, seconds); }));
  if (options.json) {
    std::printf("%s\n", result.ToJsonObject().dump().c_str());
  } else {
    result.PrintForPeople(local->tokenizer() != nullptr);
  }
  return absl::OkStatus();
}

}  // namespace

Command AddRun(CLI::App* app) {
  const auto options = std::make_shared<RunOptions>();
  CLI::App* run = app->add_subcommand("run", "Generate from a prompt, here and now");
  AddModelOptions(run, &options->model);
  run->add_option("--prompt", options->prompt, "Text to continue");
  run->add_option("--tokens", options->tokens, "Token ids to continue: 1,2,3 or @FILE");
  run->add_option("--max-tokens", options->max_tokens, "Tokens to generate at most");
  run->add_option("--min-tokens", options->min_tokens, "Tokens before anything may end the output");
  run->add_option("--temperature", options->temperature, "0 is greedy");
  run->add_option("--top-k", options->top_k, "The k most likely tokens; 0: all");
  run->add_option("--top-p", options->top_p, "The most likely tokens up to this probability");
  run->add_option("--min-p", options->min_p, "Tokens at least this fraction as likely as the likeliest");
  run->add_option("--repetition-penalty", options->repetition_penalty, "Above 1 avoids earlier tokens");
  run->add_option("--presence-penalty", options->presence_penalty, "Subtracted from tokens of the output");
  run->add_option("--frequency-penalty", options->frequency_penalty, "Subtracted once per occurrence");
  run->add_option("--seed", options->seed, "Equal seeds give equal tokens");
  run->add_option("--stop", options->stop, "End at this text; may be given several times")
      ->expected(1)
      ->take_all();
  run->add_flag("--ignore-eos", options->ignore_eos, "Go on after the end-of-sequence token");
  run->add_flag("--json", options->json, "Print one JSON object");
  return {.app = run, .run = [options] {
            const absl::Status status = Run(*options);
            return status.ok() ? kExitOk : FailWith(status);
          }};
}

}  // namespace mambad
