#include "client/ctl/generation_flags.h"

#include <CLI/CLI.hpp>

#include "absl/strings/numbers.h"
#include "absl/strings/str_split.h"
#include "client/ctl/checks.h"
#include "client/prompt.h"

namespace mambad::ctl {

void SamplingFlags::AddTo(CLI::App& app) {
  const std::string group = "Sampling";
  app.add_option("--temperature", temperature, "0 is greedy (default: the model's, then 1)")->group(group);
  app.add_option("--top-k", top_k, "Only the K most likely tokens; 0: all")->group(group);
  app.add_option("--top-p", top_p, "The most likely tokens whose probability reaches P")->group(group);
  app.add_option("--min-p", min_p, "Tokens at least this fraction as likely as the likeliest")->group(group);
  app.add_option("--repetition-penalty", repetition_penalty, "Above 1: less of what was said")->group(group);
  app.add_option("--presence-penalty", presence_penalty, "Off the logits of tokens in the output")
      ->group(group);
  app.add_option("--frequency-penalty", frequency_penalty, "The same, once per occurrence")->group(group);
  app.add_option("--seed", seed, "Equal seeds give equal tokens")->group(group);
  app.add_option("--logit-bias", logit_bias, "ID=VALUE: add VALUE to a token's logit; may repeat")
      ->type_name("ID=VALUE")
      ->expected(1)
      ->take_all()
      ->group(group);

  const std::string stops = "Stopping";
  app.add_option("-n,--max-tokens", max_tokens, "At most N tokens")->type_name("N")->group(stops);
  app.add_option("--min-tokens", min_tokens, "No stop before N tokens")->type_name("N")->group(stops);
  app.add_option("--stop", stop, "Stop at this text; may repeat")
      ->type_name("TEXT")
      ->expected(1)
      ->take_all()
      ->group(stops);
  app.add_option("--stop-token", stop_tokens, "Stop at this token id; may repeat")
      ->type_name("ID")
      ->expected(1)
      ->take_all()
      ->group(stops);
  app.add_flag("--include-stop", include_stop, "Keep the text that stopped the output")->group(stops);
  app.add_flag("--ignore-eos", ignore_eos, "Go on past the end-of-sequence token")->group(stops);
  app.add_flag("--consume-stop-token", consume_stop_token,
               "The state also reads the token that stopped the output")
      ->group(stops);
  app.add_option("--priority", priority, "Higher goes first while requests wait");
}

absl::Status SamplingFlags::Apply(v1::GenerateRequest& request) const {
  v1::SamplingParams& sampling = *request.mutable_sampling();
  if (temperature) sampling.set_temperature(*temperature);
  if (top_k) sampling.set_top_k(*top_k);
  if (top_p) sampling.set_top_p(*top_p);
  if (min_p) sampling.set_min_p(*min_p);
  if (repetition_penalty) sampling.set_repetition_penalty(*repetition_penalty);
  if (presence_penalty) sampling.set_presence_penalty(*presence_penalty);
  if (frequency_penalty) sampling.set_frequency_penalty(*frequency_penalty);
  if (seed) sampling.set_seed(*seed);
  for (const std::string& bias : logit_bias) {
    const std::vector<std::string> parts = absl::StrSplit(bias, '=');
    int32_t id = 0;
    float value = 0;
    if (parts.size() != 2 || !absl::SimpleAtoi(parts[0], &id) || !absl::SimpleAtof(parts[1], &value))
      return absl::InvalidArgumentError("--logit-bias wants ID=VALUE, two numbers");
    (*sampling.mutable_logit_bias())[id] = value;
  }

  v1::StopConditions& conditions = *request.mutable_stop();
  if (max_tokens) conditions.set_max_output_tokens(*max_tokens);
  if (min_tokens) conditions.set_min_output_tokens(*min_tokens);
  for (const std::string& text : stop) conditions.add_stop_sequences(text);
  for (const uint32_t id : stop_tokens) conditions.add_stop_token_ids(id);
  conditions.set_include_stop_sequence(include_stop);
  conditions.set_ignore_eos(ignore_eos);
  conditions.set_consume_stop_token(consume_stop_token);
  request.set_priority(priority);
  return absl::OkStatus();
}

void RequestFlags::AddTo(CLI::App& app) {
  app.add_option("--model", model, "Which model (default: the only one)")->type_name("ID");
  app.add_option("-s,--session", session, "Go on with this session")->type_name("ID");
  app.add_option("--expect-position", expect_position,
                 "Fail unless the session is at this position; makes retries safe")
      ->type_name("N");
  app.add_option("--request-id", request_id, "Your name for the request")->type_name("ID");
  app.add_option("--max-queue-time", max_queue_time_s, "Longest wait for a free slot, in seconds")
      ->check(CheckSeconds)
      ->type_name("S");

  const std::string group = "Output";
  app.add_option("--candidates", candidates, "So many answers from one reading of the prompt")->group(group);
  app.add_flag("--token-ids", token_ids, "Token ids instead of text")->group(group);
  app.add_flag("--logprobs", logprobs, "With --json: each token's log-probability")->group(group);
  app.add_option("--top-logprobs", top_logprobs, "With --logprobs: also those of the N likeliest")
      ->group(group);
  app.add_flag("--prompt-logprobs", prompt_logprobs, "With --json: those of the prompt")->group(group);
}

void RequestFlags::Apply(v1::GenerateRequest& request) const {
  request.set_model(ModelName(model));
  if (!session.empty()) request.set_session(SessionName(session));
  request.set_request_id(request_id);
  request.set_candidate_count(candidates);
  if (max_queue_time_s) *request.mutable_max_queue_time() = ToProto(absl::Seconds(*max_queue_time_s));
  if (expect_position) request.set_expect_position(*expect_position);
  v1::OutputOptions& output = *request.mutable_output();
  output.set_token_ids(token_ids);
  output.set_skip_text(token_ids);
  output.set_logprobs(logprobs);
  output.set_top_logprobs(top_logprobs);
  output.set_prompt_logprobs(prompt_logprobs);
}

}  // namespace mambad::ctl
