// What the engine says while a request runs. Order in a sink: Started, then PromptLogprobs, Delta and
// Finished (once per candidate, after its last Delta), Scored for a Score request, and End: exactly one,
// always last.
#ifndef MAMBAD_ENGINE_TOKEN_EVENT_H_
#define MAMBAD_ENGINE_TOKEN_EVENT_H_

#include <cstdint>
#include <optional>
#include <string>
#include <variant>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/session_verbs.h"

namespace mambad {

enum class FinishReason { kEos, kStopToken, kStopSequence, kLength };
inline constexpr int kFinishReasonCount = 4;
const char* FinishReasonName(FinishReason reason);  // "EOS", "STOP_TOKEN", "STOP_SEQUENCE", "LENGTH"

struct Usage {
  uint64_t input_tokens = 0;  // this request's prompt only
  uint64_t cached_input_tokens = 0;
  uint64_t output_tokens = 0;     // emitted tokens of this candidate, EOS and stop tokens included
  uint64_t session_position = 0;  // after this turn; 0 without a session
};

struct TopLogprob {
  uint32_t token_id = 0;
  float logprob = 0;
};

// log p of one token under the raw logits, and the most likely tokens beside it (descending; ties lowest id
// first).
struct TokenLogprob {
  uint32_t token_id = 0;
  float logprob = 0;  // NaN: no prediction exists (the first token ever consumed)
  std::vector<TopLogprob> top;
};

struct StartedEvent {
  uint64_t seed = 0;
  absl::Duration queue_time;
  uint64_t cached_input_tokens = 0;
};

// The log-probabilities of the next prompt tokens, in order; the chunks of a prompt come one after the other.
struct PromptLogprobsEvent {
  std::vector<TokenLogprob> logprobs;
};

struct DeltaEvent {
  uint32_t candidate_index = 0;
  std::string text;                    // whole UTF-8; empty while text is held back
  std::vector<uint32_t> token_ids;     // every token emitted since the last Delta of this candidate
  std::vector<TokenLogprob> logprobs;  // parallel to token_ids when asked for
  absl::Time sampled_at;               // the tick that drew the last of these tokens
};

struct FinishedEvent {
  uint32_t candidate_index = 0;
  FinishReason reason = FinishReason::kLength;
  std::string matched_stop;  // the stop string, for kStopSequence
  Usage usage;
};

struct ScoredEvent {
  std::vector<TokenLogprob> logprobs;  // parallel to score_text
  double total_logprob = 0;
  bool is_greedy = false;  // every token was the most likely one
};

// The end of the request, with the one status that the RPC ends with. A cancelled, failed or expired turn
// says in `usage` what was consumed and emitted before it ended.
struct EndEvent {
  absl::Status status;
  Usage usage;  // summed over candidates
  // The session as the turn leaves it, idle again. None: stateless, refused before the session was taken up,
  // or the session was deleted.
  std::optional<SessionInfo> session;
};

using TokenEvent =
    std::variant<StartedEvent, PromptLogprobsEvent, DeltaEvent, FinishedEvent, ScoredEvent, EndEvent>;

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TOKEN_EVENT_H_
