// generation_config.json: how a model's authors want it sampled. A caller's own parameters come first, these
// second, the server's table last.
//
// Errors: INVALID_ARGUMENT naming file and key. Threads: pure functions.
#ifndef MAMBAD_ENGINE_MODEL_GENERATION_CONFIG_H_
#define MAMBAD_ENGINE_MODEL_GENERATION_CONFIG_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mambad {

// Unset: the file says nothing about it. Ranges are those of a request's fields.
struct GenerationDefaults {
  std::optional<float> temperature;  // [0, 100]; "do_sample": false gives 0
  std::optional<uint32_t> top_k;
  std::optional<float> top_p;                          // (0, 1]
  std::optional<float> min_p;                          // [0, 1]
  std::optional<float> repetition_penalty;             // (0, 10]
  std::optional<uint32_t> max_output_tokens;           // "max_new_tokens", [1, 2^30]
  std::optional<std::vector<uint32_t>> eos_token_ids;  // replaces config.json's
};

absl::StatusOr<GenerationDefaults> ParseGenerationConfig(std::string_view text, std::string_view file,
                                                         int64_t vocab_size);
// A folder without the file has no defaults: that is no error.
absl::StatusOr<GenerationDefaults> ReadGenerationConfig(const std::string& path, int64_t vocab_size);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_GENERATION_CONFIG_H_
