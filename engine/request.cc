#include "engine/request.h"

#include <cmath>
#include <set>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/schedule/batch.h"
#include "engine/text/utf8.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr size_t kRequestIdBytesMax = 256;
constexpr uint32_t kCandidatesMax = 128;
constexpr uint32_t kOutputTokensMax = 1u << 30;
constexpr size_t kStopSequencesMax = 16;
constexpr size_t kStopSequenceBytesMax = 256;
constexpr size_t kLogitBiasMax = 1024;
constexpr uint32_t kTopLogprobsMax = 20;

// Written so that a NaN is out of every range.
bool Within(float value, float low, float high) { return value >= low && value <= high; }

bool IsGenerate(const GenerationRequest& request) {
  return request.method == Method::kGenerate || request.method == Method::kStreamGenerate;
}

absl::Status CheckTokens(const std::vector<uint32_t>& tokens, std::string_view field,
                         const RequestLimits& limits) {
  for (const uint32_t token : tokens) {
    if (token >= limits.vocab_size) return InvalidField(field, "holds a token id outside the vocabulary");
  }
  return absl::OkStatus();
}

absl::Status CheckInput(const GenerationRequest& request, const RequestLimits& limits) {
  const bool score = request.method == Method::kScore;
  const std::string_view field = score ? "context" : "prompt";
  MAMBAD_RETURN_IF_ERROR(CheckTokens(request.prompt, field, limits));
  MAMBAD_RETURN_IF_ERROR(CheckTokens(request.score_text, "text", limits));
  if (request.prompt.size() > limits.prompt_tokens_max) {
    return InvalidField(field, absl::StrCat("must be at most ", limits.prompt_tokens_max, " tokens"));
  }
  if (score) {
    if (request.score_text.empty()) return InvalidField("text", "must hold at least one token");
    if (request.score_text.size() > limits.prompt_tokens_max - request.prompt.size()) {
      return InvalidField(
          "text", absl::StrCat("and context together must be at most ", limits.prompt_tokens_max, " tokens"));
    }
  } else if (!request.score_text.empty()) {
    return InvalidField("text", "belongs to Score alone");
  }
  if (request.prompt.empty()) {
    if (request.method == Method::kAppendInput) return InvalidField("prompt", "must hold at least one token");
    if (IsGenerate(request) && request.session_id.empty()) {
      return InvalidField("prompt", "must hold at least one token, except on a session past position 0");
    }
  }
  return absl::OkStatus();
}

absl::Status CheckSampling(const SamplingParams& sampling, const RequestLimits& limits) {
  if (!Within(sampling.temperature, 0, 100)) {
    return InvalidField("sampling.temperature", "must be in [0, 100]");
  }
  if (sampling.top_k > static_cast<uint32_t>(INT32_MAX)) {
    return InvalidField("sampling.top_k", "must be at most 2147483647");
  }
  if (!(sampling.top_p > 0 && sampling.top_p <= 1)) {
    return InvalidField("sampling.top_p", "must be in (0, 1]");
  }
  if (!Within(sampling.min_p, 0, 1)) return InvalidField("sampling.min_p", "must be in [0, 1]");
  if (!(sampling.repetition_penalty > 0 && sampling.repetition_penalty <= 10)) {
    return InvalidField("sampling.repetition_penalty", "must be in (0, 10]");
  }
  if (!Within(sampling.presence_penalty, -2, 2)) {
    return InvalidField("sampling.presence_penalty", "must be in [-2, 2]");
  }
  if (!Within(sampling.frequency_penalty, -2, 2)) {
    return InvalidField("sampling.frequency_penalty", "must be in [-2, 2]");
  }
  if (sampling.logit_bias.size() > kLogitBiasMax) {
    return InvalidField("sampling.logit_bias", "must have at most 1024 entries");
  }
  std::set<uint32_t> biased;
  for (const auto& [token, bias] : sampling.logit_bias) {
    if (token >= limits.vocab_size) {
      return InvalidField("sampling.logit_bias", "holds a token id outside the vocabulary");
    }
    if (!Within(bias, -100, 100)) return InvalidField("sampling.logit_bias", "must be in [-100, 100]");
    if (!biased.insert(token).second) return InvalidField("sampling.logit_bias", "names a token id twice");
  }
  return absl::OkStatus();
}

absl::Status CheckStop(const StopConditions& stop, const RequestLimits& limits) {
  if (stop.max_output_tokens < 1 || stop.max_output_tokens > kOutputTokensMax) {
    return InvalidField("stop.max_output_tokens", "must be in [1, 1073741824]");
  }
  if (stop.min_output_tokens > stop.max_output_tokens) {
    return InvalidField("stop.min_output_tokens", "must be at most stop.max_output_tokens");
  }
  if (stop.stop_sequences.size() > kStopSequencesMax) {
    return InvalidField("stop.stop_sequences", "must be at most 16");
  }
  for (const std::string& sequence : stop.stop_sequences) {
    if (sequence.empty() || sequence.size() > kStopSequenceBytesMax) {
      return InvalidField("stop.stop_sequences", "must each be 1 to 256 bytes");
    }
    if (!IsValidUtf8(sequence)) return InvalidField("stop.stop_sequences", "must be UTF-8");
  }
  if (stop.stop_token_ids.size() > kStopTokensMax) {
    return InvalidField("stop.stop_token_ids", "must be at most 64");
  }
  MAMBAD_RETURN_IF_ERROR(CheckTokens(stop.stop_token_ids, "stop.stop_token_ids", limits));
  if (!stop.stop_sequences.empty() && !limits.has_tokenizer) {
    return MakeError(absl::StatusCode::kFailedPrecondition,
                     "stop.stop_sequences need a model with a tokenizer",
                     {.reason = reason::kNoTokenizer, .field = "stop.stop_sequences"});
  }
  return absl::OkStatus();
}

absl::Status CheckOutput(const GenerationRequest& request) {
  const OutputOptions& output = request.output;
  if (output.prompt_logprobs && !IsGenerate(request)) {
    return InvalidField("output.prompt_logprobs", "belongs to Generate alone");
  }
  if (output.top_logprobs > kTopLogprobsMax) return InvalidField("output.top_logprobs", "must be in [0, 20]");
  if (output.top_logprobs > 0 && !output.logprobs && !output.prompt_logprobs) {
    return InvalidField("output.top_logprobs", "needs output.logprobs or output.prompt_logprobs");
  }
  return absl::OkStatus();
}

absl::Status CheckSessionFields(const GenerationRequest& request) {
  if (request.session_id.empty()) {
    if (request.method == Method::kAppendInput) return InvalidField("name", "must name a session");
    if (request.expect_position) return InvalidField("expect_position", "needs a session");
  } else if (request.candidate_count > 1) {
    return InvalidField("candidate_count", "must be 1 on a session");
  }
  return absl::OkStatus();
}

}  // namespace

const char* MethodName(Method method) {
  switch (method) {
    case Method::kGenerate:
      return "Generate";
    case Method::kStreamGenerate:
      return "StreamGenerate";
    case Method::kScore:
      return "Score";
    case Method::kAppendInput:
      return "AppendInput";
  }
  return "unknown";
}

absl::Status Validate(const GenerationRequest& request, const RequestLimits& limits) {
  if (request.request_id.size() > kRequestIdBytesMax) {
    return InvalidField("request_id", "must be at most 256 bytes");
  }
  if (request.candidate_count < 1 || request.candidate_count > kCandidatesMax) {
    return InvalidField("candidate_count", "must be in [1, 128]");
  }
  if (request.candidate_count > limits.state_slots) {
    return InvalidField("candidate_count", "must be at most the state slots of this server");
  }
  if (request.candidate_count > limits.decode_rows) {
    return InvalidField("candidate_count", "must be at most the decode rows of this server");
  }
  if (request.candidate_count > 1 && !IsGenerate(request)) {
    return InvalidField("candidate_count", "belongs to Generate alone");
  }
  if (request.max_queue_time && *request.max_queue_time < absl::ZeroDuration()) {
    return InvalidField("max_queue_time", "must not be negative");
  }
  MAMBAD_RETURN_IF_ERROR(CheckSessionFields(request));
  MAMBAD_RETURN_IF_ERROR(CheckSampling(request.sampling, limits));
  MAMBAD_RETURN_IF_ERROR(CheckStop(request.stop, limits));
  MAMBAD_RETURN_IF_ERROR(CheckOutput(request));
  return CheckInput(request, limits);
}

}  // namespace mambad
