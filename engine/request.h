// What a caller asks the engine for, as plain structs: the engine's side of GenerateRequest, ScoreRequest and
// AppendInput. Ranges are those of the proto's comments; Engine::Submit checks them again (Validate below),
// so a caller without gRPC gets the same errors.
#ifndef MAMBAD_ENGINE_REQUEST_H_
#define MAMBAD_ENGINE_REQUEST_H_

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"

namespace mambad {

// Names an accepted request; never 0, never used twice.
using RequestTicket = uint64_t;

// Which RPC a request came by: the `method` label of the metrics.
enum class Method { kGenerate, kStreamGenerate, kScore, kAppendInput };
inline constexpr int kMethodCount = 4;
const char* MethodName(Method method);  // "Generate", "StreamGenerate", "Score", "AppendInput"

// How the next token is drawn. Order: logit bias, penalties (over this request's prompt and output),
// temperature, top-k, top-p, min-p; ties go to the lowest id.
struct SamplingParams {
  float temperature = 1.0f;         // [0, 100]; 0 is greedy
  uint32_t top_k = 0;               // 0: all
  float top_p = 1.0f;               // (0, 1]
  float min_p = 0.0f;               // [0, 1]
  float repetition_penalty = 1.0f;  // (0, 10]
  float presence_penalty = 0.0f;    // [-2, 2]
  float frequency_penalty = 0.0f;   // [-2, 2]
  std::optional<uint64_t> seed;     // none: the engine draws one and reports it in Started
  std::vector<std::pair<uint32_t, float>>
      logit_bias;  // (token id < vocab_size, [-100, 100]); at most 1024 pairs
};

struct StopConditions {
  uint32_t max_output_tokens = 1024;  // [1, 2^30]
  uint32_t min_output_tokens = 0;     // <= max_output_tokens; no EOS, no stop id and no stop string that is
                                      // complete before it ends the output
  std::vector<std::string> stop_sequences;  // at most 16, 1 to 256 bytes each
  std::vector<uint32_t> stop_token_ids;     // at most 64
  bool include_stop_sequence = false;       // keep the matched stop string in the text
  bool ignore_eos = false;
  bool consume_stop_token = false;  // the state also consumes the EOS or stop token that ended the turn
};

struct OutputOptions {
  bool token_ids = false;
  bool logprobs = false;
  uint32_t top_logprobs = 0;  // [0, 20]; needs logprobs or prompt_logprobs
  bool prompt_logprobs = false;
  bool skip_text = false;  // no detokenizing: Delta.text stays empty
};

struct GenerationRequest {
  Method method = Method::kGenerate;
  std::string request_id;            // at most 256 bytes; the caller (or the server) made it
  std::string session_id;            // empty: stateless
  std::vector<uint32_t> prompt;      // Score: the context. Empty: continue (only at position > 0)
  std::vector<uint32_t> score_text;  // Score only: the tokens to score, at least 1
  SamplingParams sampling;
  StopConditions stop;
  OutputOptions output;
  uint32_t candidate_count = 1;  // [1, 128], at most RequestLimits' slots and rows; > 1 only without session
  int32_t priority = 0;          // higher first; equal: in order of arrival
  absl::Time arrival = absl::InfinitePast();  // when the RPC arrived; InfinitePast: Submit's time
  absl::Time deadline = absl::InfiniteFuture();
  std::optional<absl::Duration> max_queue_time;
  std::optional<uint64_t> expect_position;  // sessions only

  uint64_t input_tokens() const { return prompt.size() + score_text.size(); }
};

// The limits of a model and its pool that a request is checked against.
struct RequestLimits {
  uint32_t vocab_size = 0;
  uint32_t state_slots = 0;
  uint64_t prompt_tokens_max = 0;
  bool has_tokenizer = false;  // without one: skip_text is implied and stop_sequences are FAILED_PRECONDITION
  uint32_t decode_rows = UINT32_MAX;  // of one forward pass, in which all candidates draw their first token
};

// OK, or INVALID_ARGUMENT naming the proto field that breaks its range.
absl::Status Validate(const GenerationRequest& request, const RequestLimits& limits);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_REQUEST_H_
