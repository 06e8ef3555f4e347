#include "server/convert.h"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/device_info.h"
#include "engine/error.h"
#include "kernels/base/status_macros.h"
#include "server/version.h"

namespace mambad {
namespace {

constexpr int64_t kDurationSecondsMax = 315576000000;  // google.protobuf.Duration: about 10,000 years
constexpr int32_t kNanosMax = 999999999;

absl::StatusOr<absl::Duration> FromProto(const google::protobuf::Duration& proto, std::string_view field) {
  const bool in_range =
      proto.seconds() >= -kDurationSecondsMax && proto.seconds() <= kDurationSecondsMax &&
      proto.nanos() >= -kNanosMax && proto.nanos() <= kNanosMax &&
      (proto.seconds() == 0 || proto.nanos() == 0 || (proto.seconds() < 0) == (proto.nanos() < 0));
  if (!in_range) return InvalidField(field, "is no valid duration");
  return absl::Seconds(proto.seconds()) + absl::Nanoseconds(proto.nanos());
}

void ToProto(absl::Duration duration, google::protobuf::Duration* proto) {
  const int64_t seconds = absl::IDivDuration(duration, absl::Seconds(1), &duration);
  proto->set_seconds(seconds);
  proto->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(duration)));
}

void ToProto(absl::Time time, google::protobuf::Timestamp* proto) {
  const int64_t seconds = absl::ToUnixSeconds(time);
  proto->set_seconds(seconds);
  proto->set_nanos(static_cast<int32_t>(absl::ToInt64Nanoseconds(time - absl::FromUnixSeconds(seconds))));
}

// Ids into `ids`, or a text into `text`.
absl::Status FromProto(const v1::Prompt& proto, std::string_view field, const Serving& serving,
                       std::vector<uint32_t>* ids, std::optional<std::string>* text) {
  if (proto.has_token_ids()) {
    ids->assign(proto.token_ids().ids().begin(), proto.token_ids().ids().end());
  } else if (proto.has_text()) {
    if (serving.tokenizer() == nullptr) {
      return MakeError(
          absl::StatusCode::kFailedPrecondition,
          absl::StrCat(std::string(field), ".text needs a model with a tokenizer; send token ids"),
          {.reason = reason::kNoTokenizer});
    }
    *text = proto.text();
  }
  return absl::OkStatus();
}

absl::Status FromProto(const v1::SamplingParams& proto, const GenerationDefaults& defaults,
                       SamplingParams* sampling) {
  const SamplingParams table;
  sampling->temperature =
      proto.has_temperature() ? proto.temperature() : defaults.temperature.value_or(table.temperature);
  sampling->top_k = proto.has_top_k() ? proto.top_k() : defaults.top_k.value_or(table.top_k);
  sampling->top_p = proto.has_top_p() ? proto.top_p() : defaults.top_p.value_or(table.top_p);
  sampling->min_p = proto.has_min_p() ? proto.min_p() : defaults.min_p.value_or(table.min_p);
  sampling->repetition_penalty = proto.has_repetition_penalty()
                                     ? proto.repetition_penalty()
                                     : defaults.repetition_penalty.value_or(table.repetition_penalty);
  sampling->presence_penalty = proto.presence_penalty();
  sampling->frequency_penalty = proto.frequency_penalty();
  if (proto.has_seed()) sampling->seed = proto.seed();
  for (const auto& [token, bias] : proto.logit_bias()) {
    if (token < 0) return InvalidField("sampling.logit_bias", "holds a token id outside the vocabulary");
    sampling->logit_bias.emplace_back(static_cast<uint32_t>(token), bias);
  }
  // A map has no order; the request does.
  std::ranges::sort(sampling->logit_bias);
  return absl::OkStatus();
}

void FromProto(const v1::StopConditions& proto, const GenerationDefaults& defaults, StopConditions* stop) {
  stop->max_output_tokens = proto.has_max_output_tokens()
                                ? proto.max_output_tokens()
                                : defaults.max_output_tokens.value_or(StopConditions().max_output_tokens);
  stop->min_output_tokens = proto.min_output_tokens();
  stop->stop_sequences.assign(proto.stop_sequences().begin(), proto.stop_sequences().end());
  stop->stop_token_ids.assign(proto.stop_token_ids().begin(), proto.stop_token_ids().end());
  stop->include_stop_sequence = proto.include_stop_sequence();
  stop->ignore_eos = proto.ignore_eos();
  stop->consume_stop_token = proto.consume_stop_token();
}

void FromProto(const v1::OutputOptions& proto, OutputOptions* output) {
  output->token_ids = proto.token_ids();
  output->logprobs = proto.logprobs();
  output->top_logprobs = proto.top_logprobs();
  output->prompt_logprobs = proto.prompt_logprobs();
  output->skip_text = proto.skip_text();
}

std::string TokenText(uint32_t id, const TokenView& view) {
  return view.tokenizer == nullptr ? std::string() : view.tokenizer->Decode({&id, 1}, false);
}

void ToProto(const TokenLogprob& logprob, const TokenView& view, v1::TokenLogprob* proto) {
  proto->set_token_id(logprob.token_id);
  if (!std::isnan(logprob.logprob)) proto->set_logprob(logprob.logprob);
  proto->set_text(TokenText(logprob.token_id, view));
  for (const TopLogprob& top : logprob.top) {
    v1::TopLogprob* entry = proto->add_top();
    entry->set_token_id(top.token_id);
    entry->set_logprob(top.logprob);
    entry->set_text(TokenText(top.token_id, view));
  }
}

}  // namespace

absl::Status CheckModelName(std::string_view name, std::string_view field, const Serving& serving) {
  if (name.empty()) return absl::OkStatus();
  if (!name.starts_with("models/") || name.size() == 7) return InvalidField(field, "must be models/{id}");
  if (name == serving.model_name()) return absl::OkStatus();
  return MakeError(absl::StatusCode::kNotFound, "this server has no such model",
                   {.reason = reason::kModelNotFound});
}

absl::StatusOr<std::string> SessionIdOf(std::string_view name, std::string_view field) {
  static constexpr std::string_view kPrefix = "sessions/";
  if (!name.starts_with(kPrefix) || name.size() == kPrefix.size()) {
    return InvalidField(field, "must be sessions/{id}");
  }
  return std::string(name.substr(kPrefix.size()));
}

absl::StatusOr<PendingRequest> FromProto(const v1::GenerateRequest& proto, Method method,
                                         const Serving& serving) {
  PendingRequest pending;
  GenerationRequest& request = pending.request;
  request.method = method;
  MAMBAD_RETURN_IF_ERROR(CheckModelName(proto.model(), "model", serving));
  if (!proto.session().empty()) {
    MAMBAD_ASSIGN_OR_RETURN(request.session_id, SessionIdOf(proto.session(), "session"));
  }
  MAMBAD_RETURN_IF_ERROR(FromProto(proto.prompt(), "prompt", serving, &request.prompt, &pending.prompt_text));
  MAMBAD_RETURN_IF_ERROR(FromProto(proto.sampling(), serving.defaults, &request.sampling));
  FromProto(proto.stop(), serving.defaults, &request.stop);
  FromProto(proto.output(), &request.output);
  request.candidate_count = proto.candidate_count() == 0 ? 1 : proto.candidate_count();
  request.priority = proto.priority();
  if (proto.has_max_queue_time()) {
    MAMBAD_ASSIGN_OR_RETURN(request.max_queue_time, FromProto(proto.max_queue_time(), "max_queue_time"));
  }
  request.request_id = proto.request_id();
  if (proto.has_expect_position()) request.expect_position = proto.expect_position();
  return pending;
}

absl::StatusOr<PendingRequest> FromProto(const v1::ScoreRequest& proto, const Serving& serving) {
  PendingRequest pending;
  GenerationRequest& request = pending.request;
  request.method = Method::kScore;
  MAMBAD_RETURN_IF_ERROR(CheckModelName(proto.model(), "model", serving));
  if (!proto.session().empty()) {
    MAMBAD_ASSIGN_OR_RETURN(request.session_id, SessionIdOf(proto.session(), "session"));
  }
  MAMBAD_RETURN_IF_ERROR(
      FromProto(proto.context(), "context", serving, &request.prompt, &pending.prompt_text));
  MAMBAD_RETURN_IF_ERROR(FromProto(proto.text(), "text", serving, &request.score_text, &pending.score_text));
  return pending;
}

absl::StatusOr<PendingRequest> FromProto(const v1::AppendInputRequest& proto, const Serving& serving) {
  PendingRequest pending;
  GenerationRequest& request = pending.request;
  request.method = Method::kAppendInput;
  MAMBAD_ASSIGN_OR_RETURN(request.session_id, SessionIdOf(proto.name(), "name"));
  MAMBAD_RETURN_IF_ERROR(FromProto(proto.prompt(), "prompt", serving, &request.prompt, &pending.prompt_text));
  request.request_id = proto.request_id();
  if (proto.has_expect_position()) request.expect_position = proto.expect_position();
  return pending;
}

absl::Status ValidatePending(const PendingRequest& pending, const RequestLimits& limits) {
  if (!pending.has_text()) return Validate(pending.request, limits);
  GenerationRequest request = pending.request;
  if (pending.prompt_text && !pending.prompt_text->empty()) {
    request.prompt.assign(1, 0);
  }
  if (pending.score_text && !pending.score_text->empty()) {
    request.score_text.assign(1, 0);
  }
  return Validate(request, limits);
}

absl::Status TokenizePending(const Tokenizer& tokenizer, bool at_start, PendingRequest* pending) {
  GenerationRequest& request = pending->request;
  if (pending->prompt_text.has_value()) {
    // An empty text stays empty: what the template adds is no prompt of its own.
    if (!pending->prompt_text->empty()) {
      MAMBAD_ASSIGN_OR_RETURN(request.prompt,
                              tokenizer.Encode(*pending->prompt_text, {.add_special_tokens = at_start}));
    }
    pending->prompt_text.reset();
  }
  if (pending->score_text.has_value()) {
    const bool first = at_start && request.prompt.empty();
    MAMBAD_ASSIGN_OR_RETURN(request.score_text,
                            tokenizer.Encode(*pending->score_text, {.add_special_tokens = first}));
    pending->score_text.reset();
  }
  return absl::OkStatus();
}

absl::StatusOr<CreateSessionRequest> FromProto(const v1::CreateSessionRequest& proto,
                                               const Serving& serving) {
  CreateSessionRequest request;
  request.id = proto.session_id();
  MAMBAD_RETURN_IF_ERROR(CheckModelName(proto.session().model(), "session.model", serving));
  for (const auto& [key, value] : proto.session().labels()) request.labels[key] = value;
  if (proto.session().has_ttl()) {
    MAMBAD_ASSIGN_OR_RETURN(request.ttl, FromProto(proto.session().ttl(), "session.ttl"));
  }
  request.state_seed = proto.session().state_seed();
  return request;
}

absl::StatusOr<ForkSessionRequest> FromProto(const v1::ForkSessionRequest& proto) {
  ForkSessionRequest request;
  MAMBAD_ASSIGN_OR_RETURN(request.source_id, SessionIdOf(proto.name(), "name"));
  request.id = proto.session_id();
  return request;
}

absl::StatusOr<DeleteSessionRequest> FromProto(const v1::DeleteSessionRequest& proto) {
  DeleteSessionRequest request;
  MAMBAD_ASSIGN_OR_RETURN(request.id, SessionIdOf(proto.name(), "name"));
  request.etag = proto.etag();
  request.allow_missing = proto.allow_missing();
  return request;
}

absl::StatusOr<ListSessionsRequest> FromProto(const v1::ListSessionsRequest& proto) {
  if (proto.page_size() < 0) return InvalidField("page_size", "must not be negative");
  return ListSessionsRequest{.page_size = static_cast<uint32_t>(proto.page_size()),
                             .page_token = proto.page_token()};
}

TokenView ViewOf(const OutputOptions& output, const Serving& serving) {
  const Tokenizer* tokenizer = output.skip_text ? nullptr : serving.tokenizer();
  return {.tokenizer = tokenizer, .token_ids = output.token_ids || tokenizer == nullptr};
}

void ToProto(const StartedEvent& event, const std::string& request_id, v1::Started* proto) {
  proto->set_request_id(request_id);
  proto->set_seed(event.seed);
  ToProto(event.queue_time, proto->mutable_queue_time());
  proto->set_cached_input_tokens(event.cached_input_tokens);
}

void ToProto(const PromptLogprobsEvent& event, const TokenView& view, v1::PromptLogprobs* proto) {
  for (const TokenLogprob& logprob : event.logprobs) ToProto(logprob, view, proto->add_logprobs());
}

void AppendToProto(const DeltaEvent& event, const TokenView& view, v1::Delta* proto) {
  proto->set_candidate_index(event.candidate_index);
  proto->mutable_text()->append(event.text);
  if (view.token_ids) proto->mutable_token_ids()->Add(event.token_ids.begin(), event.token_ids.end());
  for (const TokenLogprob& logprob : event.logprobs) ToProto(logprob, view, proto->add_logprobs());
}

void ToProto(const FinishedEvent& event, v1::Finished* proto) {
  proto->set_candidate_index(event.candidate_index);
  proto->set_finish_reason(ToProto(event.reason));
  proto->set_matched_stop(event.matched_stop);
  ToProto(event.usage, proto->mutable_usage());
}

void ToProto(const Usage& usage, v1::Usage* proto) {
  proto->set_input_tokens(usage.input_tokens);
  proto->set_cached_input_tokens(usage.cached_input_tokens);
  proto->set_output_tokens(usage.output_tokens);
  proto->set_session_position(usage.session_position);
}

void ToProto(const ScoredEvent& event, const TokenView& view, v1::ScoreResponse* proto) {
  for (const TokenLogprob& logprob : event.logprobs) {
    proto->add_token_ids(logprob.token_id);
    ToProto(logprob, view, proto->add_logprobs());
  }
  proto->set_total_logprob(event.total_logprob);
  proto->set_is_greedy(event.is_greedy);
}

v1::FinishReason ToProto(FinishReason reason) {
  switch (reason) {
    case FinishReason::kEos:
      return v1::EOS;
    case FinishReason::kStopToken:
      return v1::STOP_TOKEN;
    case FinishReason::kStopSequence:
      return v1::STOP_SEQUENCE;
    case FinishReason::kLength:
      return v1::LENGTH;
  }
  return v1::FINISH_REASON_UNSPECIFIED;
}

void ToProto(const SessionInfo& info, const Serving& serving, v1::Session* proto) {
  proto->set_name("sessions/" + info.id);
  proto->set_model(serving.model_name());
  proto->set_position(info.position);
  switch (info.state) {
    case SessionState::kIdle:
      proto->set_state(v1::Session::IDLE);
      break;
    case SessionState::kWaiting:
      proto->set_state(v1::Session::WAITING);
      break;
    case SessionState::kPrefilling:
      proto->set_state(v1::Session::PREFILLING);
      break;
    case SessionState::kDecoding:
      proto->set_state(v1::Session::DECODING);
      break;
    case SessionState::kPaused:
      proto->set_state(v1::Session::PAUSED);
      break;
  }
  proto->set_exact(info.exact);
  for (const auto& [key, value] : info.labels) (*proto->mutable_labels())[key] = value;
  if (info.expire_time != absl::InfiniteFuture()) ToProto(info.expire_time, proto->mutable_expire_time());
  ToProto(info.create_time, proto->mutable_create_time());
  proto->set_etag(info.etag);
  proto->set_bytes(info.bytes);
  proto->set_state_seed(info.state_seed);
}

void ToProto(const SessionPage& page, const Serving& serving, v1::ListSessionsResponse* proto) {
  for (const SessionInfo& info : page.sessions) ToProto(info, serving, proto->add_sessions());
  proto->set_next_page_token(page.next_page_token);
}

void ToProto(const Serving& serving, v1::Model* proto) {
  const ModelInfo& info = serving.engine->model().info();
  proto->set_name(serving.model_name());
  proto->set_model_type(info.model_type);
  proto->set_vocab_size(static_cast<uint64_t>(info.vocab_size));
  proto->set_d_model(static_cast<uint64_t>(info.d_model));
  proto->set_d_inner(static_cast<uint64_t>(info.d_inner));
  proto->set_d_state(static_cast<uint64_t>(info.d_state));
  proto->set_d_conv(static_cast<uint64_t>(info.d_conv));
  proto->set_dt_rank(static_cast<uint64_t>(info.dt_rank));
  proto->set_n_layer(static_cast<uint64_t>(info.n_layer));
  proto->set_parameter_count(info.parameters);
  proto->set_weight_bytes(info.weight_bytes);
  proto->set_state_bytes(serving.engine->model().state_layout().bytes);
  proto->set_precision(info.precision);
  proto->mutable_eos_token_ids()->Add(info.eos_token_ids.begin(), info.eos_token_ids.end());
  proto->set_has_tokenizer(serving.tokenizer() != nullptr);
  proto->set_digest(info.digest);
  proto->set_numerics_id(info.numerics_id);
  proto->set_state_dtype(info.state_dtype);
}

void ToProto(const Serving& serving, absl::Time start_time, uint64_t receive_bytes, v1::ServerInfo* proto) {
  const Engine& engine = *serving.engine;
  proto->set_version(kVersion);
  const DeviceInfo device = DescribeDevice(engine.model());
  proto->set_device(device.kind);
  proto->set_device_name(device.name);
  proto->set_threads(device.threads);
  ToProto(start_time, proto->mutable_start_time());
  for (const MemoryAddend& addend : engine.MemoryLedger()) {
    v1::ServerInfo::MemoryAddend* entry = proto->add_memory();
    entry->set_name(addend.name);
    entry->set_bytes(addend.bytes);
  }
  const EngineOptions& options = engine.options();
  v1::ServerInfo::Limits* limits = proto->mutable_limits();
  limits->set_state_slots(options.state_slots);
  limits->set_sessions(options.sessions_max);
  limits->set_queue_requests(options.queue_requests_max);
  limits->set_queue_tokens(options.queue_tokens_max);
  limits->set_prompt_tokens(options.prompt_tokens_max);
  limits->set_decode_rows(options.decode_rows_max);
  limits->set_receive_message_bytes(receive_bytes);
  proto->set_state_dtype(engine.model().info().state_dtype);
}

}  // namespace mambad
