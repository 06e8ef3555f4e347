// The border between mambad.v1 messages and the engine's plain structs. No other file includes both; nothing
// behind it knows a proto type.
//
// From the wire: presence, defaults (the model's generation_config.json, then the table of generation.proto),
// names and what a proto type can hold but the engine's cannot. Every other range is the engine's Validate.
// Errors: INVALID_ARGUMENT naming the field, NOT_FOUND for another model, FAILED_PRECONDITION for text
// without a tokenizer. Texts never repeat a value.
//
// Threads: pure functions.
#ifndef MAMBAD_SERVER_CONVERT_H_
#define MAMBAD_SERVER_CONVERT_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/request.h"
#include "engine/session_verbs.h"
#include "engine/token_event.h"
#include "mambad/v1/generation.pb.h"
#include "mambad/v1/model.pb.h"
#include "mambad/v1/server.pb.h"
#include "mambad/v1/session.pb.h"
#include "server/serving.h"

namespace mambad {

// A request whose texts are still to be tokenized.
struct PendingRequest {
  GenerationRequest request;
  std::optional<std::string> prompt_text;  // becomes request.prompt
  std::optional<std::string> score_text;   // becomes request.score_text

  size_t text_bytes() const {
    return (prompt_text ? prompt_text->size() : 0) + (score_text ? score_text->size() : 0);
  }
  bool has_text() const { return prompt_text.has_value() || score_text.has_value(); }
};

absl::StatusOr<PendingRequest> FromProto(const v1::GenerateRequest& proto, Method method,
                                         const Serving& serving);
absl::StatusOr<PendingRequest> FromProto(const v1::ScoreRequest& proto, const Serving& serving);
absl::StatusOr<PendingRequest> FromProto(const v1::AppendInputRequest& proto, const Serving& serving);

// The engine's Validate, before any text is tokenized: a text counts as one token.
absl::Status ValidatePending(const PendingRequest& pending, const RequestLimits& limits);

// Tokenizes the texts into the request. `at_start`: the state is at position 0, where the tokenizer's
// template adds its tokens.
absl::Status TokenizePending(const Tokenizer& tokenizer, bool at_start, PendingRequest* pending);

// INVALID_ARGUMENT when `name` is set and no "models/{id}"; NOT_FOUND when it is another model's.
absl::Status CheckModelName(std::string_view name, std::string_view field, const Serving& serving);
// The id of "sessions/{id}".
absl::StatusOr<std::string> SessionIdOf(std::string_view name, std::string_view field);

absl::StatusOr<CreateSessionRequest> FromProto(const v1::CreateSessionRequest& proto, const Serving& serving);
absl::StatusOr<ForkSessionRequest> FromProto(const v1::ForkSessionRequest& proto);
absl::StatusOr<DeleteSessionRequest> FromProto(const v1::DeleteSessionRequest& proto);
absl::StatusOr<ListSessionsRequest> FromProto(const v1::ListSessionsRequest& proto);

// How tokens are shown to the caller.
struct TokenView {
  const Tokenizer* tokenizer = nullptr;  // null: no text
  bool token_ids = false;                // send the ids of emitted tokens
};
TokenView ViewOf(const OutputOptions& output, const Serving& serving);

void ToProto(const StartedEvent& event, const std::string& request_id, v1::Started* proto);
void ToProto(const PromptLogprobsEvent& event, const TokenView& view, v1::PromptLogprobs* proto);
// Appends, so that Deltas of one candidate can be joined.
void AppendToProto(const DeltaEvent& event, const TokenView& view, v1::Delta* proto);
void ToProto(const FinishedEvent& event, v1::Finished* proto);
void ToProto(const Usage& usage, v1::Usage* proto);
void ToProto(const ScoredEvent& event, const TokenView& view, v1::ScoreResponse* proto);
v1::FinishReason ToProto(FinishReason reason);

void ToProto(const SessionInfo& info, const Serving& serving, v1::Session* proto);
void ToProto(const SessionPage& page, const Serving& serving, v1::ListSessionsResponse* proto);

void ToProto(const Serving& serving, v1::Model* proto);
// `start_time` of the process; `receive_bytes` is the limit of one message.
void ToProto(const Serving& serving, absl::Time start_time, uint64_t receive_bytes, v1::ServerInfo* proto);

}  // namespace mambad

#endif  // MAMBAD_SERVER_CONVERT_H_
