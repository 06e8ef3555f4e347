// mambad score: the log-probability of every token of a text, given those before it.
#include <cmath>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <variant>

#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/commands/commands.h"
#include "server/commands/local_engine.h"
#include "server/exit_code.h"
#include "server/progress.h"

namespace mambad {
namespace {

struct ScoreOptions {
  ModelOptions model;
  std::optional<std::string> text;
  std::string tokens;
  bool json = false;
};

void Print(const ScoredEvent& scored, const ScoreOptions& options) {
  if (!options.json) {
    for (const TokenLogprob& token : scored.logprobs)
      std::printf("%u\t%.6f\n", token.token_id, token.logprob);
    std::printf("total\t%.6f\n", scored.total_logprob);
    return;
  }
  nlohmann::ordered_json ids = nlohmann::ordered_json::array();
  nlohmann::ordered_json logprobs = nlohmann::ordered_json::array();
  for (const TokenLogprob& token : scored.logprobs) {
    ids.push_back(token.token_id);
    // JSON has no NaN: nothing predicted the first token.
    logprobs.push_back(std::isnan(token.logprob) ? nlohmann::ordered_json()
                                                 : nlohmann::ordered_json(token.logprob));
  }
  const nlohmann::ordered_json line = {
      {"token_ids", ids}, {"logprobs", logprobs}, {"total_logprob", scored.total_logprob}};
  std::printf("%s\n", line.dump().c_str());
}

absl::Status Score(const ScoreOptions& options) {
  if (options.text.has_value() == !options.tokens.empty()) {
    return absl::InvalidArgumentError("give one of --text and --tokens");
  }
  MAMBAD_ASSIGN_OR_RETURN(const std::unique_ptr<LocalEngine> local, LocalEngine::Create(options.model, 2));
  GenerationRequest request;
  request.method = Method::kScore;
  if (options.text.has_value()) {
    MAMBAD_ASSIGN_OR_RETURN(request.score_text, EncodeText(local->tokenizer(), *options.text));
  } else {
    MAMBAD_ASSIGN_OR_RETURN(request.score_text, ParseTokens(options.tokens));
  }
  const uint64_t total = request.score_text.size();
  uint64_t done = 0;
  std::optional<ScoredEvent> scored;
  {
    Progress progress("scoring", "tokens");
    MAMBAD_RETURN_IF_ERROR(local->Run(
        std::move(request),
        [&](const TokenEvent& event) {
          if (const auto* found = std::get_if<ScoredEvent>(&event)) scored = *found;
        },
        [&](const TickReport& report, double seconds) {
          done += report.prompt_tokens;
          progress.Update(done, total);
        }));
  }
  if (!scored.has_value()) return absl::InternalError("the engine gave no scores");
  Print(*scored, options);
  return absl::OkStatus();
}

}  // namespace

Command AddScore(CLI::App* app) {
  const auto options = std::make_shared<ScoreOptions>();
  CLI::App* score = app->add_subcommand("score", "Log-probability of every token of a text");
  AddModelOptions(score, &options->model);
  score->add_option("--text", options->text, "Text to score");
  score->add_option("--tokens", options->tokens, "Token ids to score: 1,2,3 or @FILE");
  score->add_flag("--json", options->json, "Print one JSON object");
  return {.app = score, .run = [options] {
            const absl::Status status = Score(*options);
            return status.ok() ? kExitOk : FailWith(status);
          }};
}

}  // namespace mambad
