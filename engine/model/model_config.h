// ModelConfig: config.json, read and checked. What every model has is here; what belongs to a mixer alone
// (state size, convolution width, ...) is read by the mixer from `fields`.
//
// Two forms are read: Hugging Face's ("architectures", "hidden_size", ...) and the original one of
// state-spaces
// ("d_model", "ssm_cfg", ...). Code asks for Hugging Face's keys; ConfigFields finds the original ones, and
// errors name the key that the file has.
//
// Errors: INVALID_ARGUMENT, one line naming file and key. Nothing is allocated by a number of the file: every
// one has a cap. Threads: immutable after reading.
#ifndef MAMBAD_ENGINE_MODEL_MODEL_CONFIG_H_
#define MAMBAD_ENGINE_MODEL_MODEL_CONFIG_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/json_file.h"

namespace mambad {

// Caps on what a config may ask for: an order of magnitude above every published model.
inline constexpr int64_t kMaxVocabSize = int64_t{1} << 22;
inline constexpr int64_t kMaxWidth = int64_t{1} << 17;  // d_model, d_inner
inline constexpr int64_t kMaxLayers = 1024;
inline constexpr size_t kMaxEosTokens = 64;

// The typed look-ups of JsonObject under Hugging Face's keys, whichever form the file has.
class ConfigFields {
 public:
  ConfigFields(nlohmann::json document, std::string file, bool original_form);

  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t low, int64_t high,
                                  std::optional<int64_t> fallback = {}) const;
  absl::StatusOr<double> Real(std::string_view key, double low, double high,
                              std::optional<double> fallback = {}) const;
  absl::StatusOr<bool> Boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  absl::StatusOr<std::string> String(std::string_view key, std::optional<std::string> fallback = {}) const;
  // Null when absent or JSON's null.
  const nlohmann::json* Find(std::string_view key) const;
  absl::Status Error(std::string_view key, std::string_view problem) const;

  bool original_form() const { return original_form_; }

 private:
  JsonObject object() const;
  std::string_view KeyInFile(std::string_view key) const;

  nlohmann::json json_;
  std::string file_;
  bool original_form_;
};

struct ModelConfig {
  std::string model_type;  // of the registry: "mamba", "falcon_mamba"
  int64_t vocab_size = 0;  // rows of the embedding, padding included
  int64_t d_model = 0;
  int64_t n_layer = 0;
  float norm_epsilon = 1e-5f;
  bool tie_embeddings = true;           // lm_head is the embedding
  std::vector<uint32_t> eos_token_ids;  // each below vocab_size
  std::shared_ptr<const ConfigFields> fields;
};

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view file);
absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path);

// A token id, a list of them, or null (none), each in [0, vocab_size).
absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const JsonObject& object, std::string_view key,
                                                   int64_t vocab_size);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_MODEL_CONFIG_H_
