#include "client/ctl/score.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <optional>
#include <string>

#include "client/ctl/fail.h"
#include "client/ctl/json.h"
#include "client/ctl/prompt_flags.h"

namespace mambad::ctl {
namespace {

struct ScoreFlags {
  PromptFlags text;
  std::optional<std::string> context;
  std::optional<std::string> context_tokens;
  std::string model;
  std::string session;
};

Json ScoreJson(const v1::ScoreResponse& response) {
  Json logprobs = Json::array();
  for (const v1::TokenLogprob& logprob : response.logprobs())
    logprobs.push_back(logprob.has_logprob() ? Json(logprob.logprob()) : Json());
  return {{"token_ids", response.token_ids()},
          {"logprobs", logprobs},
          {"total_logprob", response.total_logprob()},
          {"is_greedy", response.is_greedy()}};
}

int Run(const Globals& globals, const ScoreFlags& flags) {
  v1::ScoreRequest request;
  request.set_model(ModelName(flags.model));
  if (!flags.session.empty()) request.set_session(SessionName(flags.session));
  absl::StatusOr<v1::Prompt> text = flags.text.Read(/*may_be_empty=*/false);
  if (!text.ok()) return FailUsage(std::string(text.status().message()));
  *request.mutable_text() = *std::move(text);
  if (flags.context) *request.mutable_context() = TextPrompt(*flags.context);
  if (flags.context_tokens) {
    const absl::StatusOr<std::vector<uint32_t>> ids = ParseTokenIds(*flags.context_tokens);
    if (!ids.ok()) return FailUsage(std::string(ids.status().message()));
    *request.mutable_context() = TokenPrompt(*ids);
  }

  absl::StatusOr<Client> client = globals.Connect();
  if (!client.ok()) return Fail(client.status());
  const absl::StatusOr<v1::ScoreResponse> response = client->Score(request, globals.Call());
  if (!response.ok()) return Fail(response.status());
  if (globals.json) {
    PrintJson(ScoreJson(*response));
  } else {
    std::printf("total_logprob %.6f tokens %d greedy %s\n", response->total_logprob(),
                response->token_ids_size(), response->is_greedy() ? "yes" : "no");
  }
  return kExitOk;
}

}  // namespace

Verb AddScore(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("score", "The log-probability of a text");
  auto flags = std::make_shared<ScoreFlags>();
  flags->text.AddTo(*app, "--text");
  CLI::Option* context =
      app->add_option("--context", flags->context, "Read first and not scored")->type_name("TEXT");
  app->add_option("--context-tokens", flags->context_tokens, "The same as token ids: 1,2,3 or @PATH")
      ->type_name(kIdsType)
      ->excludes(context);
  app->add_option("--model", flags->model, "Which model (default: the only one)")->type_name("ID");
  app->add_option("-s,--session", flags->session, "After what this session has read; it is not changed")
      ->type_name("ID");
  return {app, [flags](const Globals& globals) { return Run(globals, *flags); }};
}

}  // namespace mambad::ctl
