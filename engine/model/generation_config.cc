#include "engine/model/generation_config.h"

#include <utility>

#include "absl/status/status.h"
#include "engine/json_file.h"
#include "engine/model/model_config.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

absl::Status ReadReal(const JsonObject& object, std::string_view key, double low, double high,
                      std::optional<float>* value) {
  if (!object.Has(key)) return absl::OkStatus();
  MAMBAD_ASSIGN_OR_RETURN(const double number, object.Real(key, low, high));
  *value = static_cast<float>(number);
  if (low > 0 && **value <= 0) return object.Error(key, "must be above 0");
  return absl::OkStatus();
}

absl::Status ReadCount(const JsonObject& object, std::string_view key, int64_t low, int64_t high,
                       std::optional<uint32_t>* value) {
  if (!object.Has(key)) return absl::OkStatus();
  MAMBAD_ASSIGN_OR_RETURN(const int64_t number, object.Integer(key, low, high));
  *value = static_cast<uint32_t>(number);
  return absl::OkStatus();
}

// The smallest number that still is one in a float: the open end of (0, ...].
constexpr double kAboveZero = 1e-37;

}  // namespace

absl::StatusOr<GenerationDefaults> ParseGenerationConfig(std::string_view text, std::string_view file,
                                                         int64_t vocab_size) {
  MAMBAD_ASSIGN_OR_RETURN(const nlohmann::json json, ParseJson(text, file, JsonLimits()));
  MAMBAD_ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(json, file));
  GenerationDefaults defaults;
  MAMBAD_RETURN_IF_ERROR(ReadReal(object, "temperature", 0, 100, &defaults.temperature));
  MAMBAD_ASSIGN_OR_RETURN(const bool do_sample, object.Boolean("do_sample", true));
  if (!do_sample) defaults.temperature = 0.0f;
  MAMBAD_RETURN_IF_ERROR(ReadCount(object, "top_k", 0, int64_t{1} << 30, &defaults.top_k));
  MAMBAD_RETURN_IF_ERROR(ReadReal(object, "top_p", kAboveZero, 1, &defaults.top_p));
  MAMBAD_RETURN_IF_ERROR(ReadReal(object, "min_p", 0, 1, &defaults.min_p));
  MAMBAD_RETURN_IF_ERROR(
      ReadReal(object, "repetition_penalty", kAboveZero, 10, &defaults.repetition_penalty));
  MAMBAD_RETURN_IF_ERROR(
      ReadCount(object, "max_new_tokens", 1, int64_t{1} << 30, &defaults.max_output_tokens));
  if (object.Has("eos_token_id")) {
    MAMBAD_ASSIGN_OR_RETURN(defaults.eos_token_ids, ReadTokenIds(object, "eos_token_id", vocab_size));
  }
  return defaults;
}

absl::StatusOr<GenerationDefaults> ReadGenerationConfig(const std::string& path, int64_t vocab_size) {
  absl::StatusOr<std::string> text = ReadFile(path, JsonLimits().bytes_max);
  if (absl::IsNotFound(text.status())) return GenerationDefaults();
  if (!text.ok()) return text.status();
  return ParseGenerationConfig(*text, path, vocab_size);
}

}  // namespace mambad
