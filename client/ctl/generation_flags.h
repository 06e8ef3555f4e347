// The flags of every field of GenerateRequest but its prompt. Ranges are the server's to check: it names the
// field.
#ifndef MAMBAD_CLIENT_CTL_GENERATION_FLAGS_H_
#define MAMBAD_CLIENT_CTL_GENERATION_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "mambad/v1/generation.pb.h"

namespace CLI {
class App;
}

namespace mambad::ctl {

// What says how the next tokens are drawn and when to stop: SamplingParams, StopConditions, priority.
struct SamplingFlags {
  std::optional<float> temperature, top_p, min_p, repetition_penalty, presence_penalty, frequency_penalty;
  std::optional<uint32_t> top_k, max_tokens, min_tokens;
  std::optional<uint64_t> seed;
  std::vector<std::string> logit_bias;  // "ID=VALUE"
  std::vector<std::string> stop;
  std::vector<uint32_t> stop_tokens;
  bool include_stop = false, ignore_eos = false, consume_stop_token = false;
  int32_t priority = 0;

  void AddTo(CLI::App& app);
  // INVALID_ARGUMENT for a bias that does not parse.
  absl::Status Apply(v1::GenerateRequest& request) const;
};

// The rest: model, session, output and how the request is handled.
struct RequestFlags {
  std::string model, session, request_id;
  uint32_t candidates = 0;
  std::optional<double> max_queue_time_s;
  std::optional<uint64_t> expect_position;
  bool token_ids = false, logprobs = false, prompt_logprobs = false;
  uint32_t top_logprobs = 0;

  void AddTo(CLI::App& app);
  void Apply(v1::GenerateRequest& request) const;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_GENERATION_FLAGS_H_
