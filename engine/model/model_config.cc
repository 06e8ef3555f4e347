#include "engine/model/model_config.h"

#include <array>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/registry.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using nlohmann::json;

struct Alias {
  std::string_view key;       // Hugging Face's
  std::string_view original;  // of state-spaces
};

constexpr std::array kAliases = {
    Alias{"hidden_size", "d_model"},
    Alias{"num_hidden_layers", "n_layer"},
    Alias{"tie_word_embeddings", "tie_embeddings"},
    Alias{"layer_norm_epsilon", "norm_epsilon"},
    Alias{"intermediate_size", "ssm_cfg.d_inner"},
    Alias{"expand", "ssm_cfg.expand"},
    Alias{"state_size", "ssm_cfg.d_state"},
    Alias{"conv_kernel", "ssm_cfg.d_conv"},
    Alias{"time_step_rank", "ssm_cfg.dt_rank"},
    Alias{"use_bias", "ssm_cfg.bias"},
    Alias{"use_conv_bias", "ssm_cfg.conv_bias"},
};

// The registry's entry for a Hugging Face config: "architectures" decides, "model_type" where there is none.
absl::StatusOr<const MixerEntry*> EntryOf(const JsonObject& object) {
  const json* architectures = object.Find("architectures");
  if (architectures != nullptr) {
    if (!architectures->is_array() || architectures->size() != 1 || !architectures->front().is_string())
      return object.Error("architectures", "must be a list of one string");
    const auto& name = architectures->front().get_ref<const std::string&>();
    if (const MixerEntry* entry = FindMixerByArchitecture(name)) return entry;
    return object.Error("architectures", absl::StrCat("names \"", Printable(name), "\"; this build has ",
                                                      RegisteredArchitectures()));
  }
  if (!object.Has("model_type")) return object.Error("architectures", "is missing");
  MAMBAD_ASSIGN_OR_RETURN(const std::string type, object.String("model_type"));
  if (const MixerEntry* entry = FindMixerByType(type)) return entry;
  return object.Error(
      "model_type", absl::StrCat("is \"", Printable(type), "\"; this build has ", RegisteredArchitectures()));
}

// What the original form can ask for and no mixer here does.
absl::StatusOr<const MixerEntry*> OriginalEntryOf(const JsonObject& object) {
  const json* ssm = object.Find("ssm_cfg");
  if (ssm != nullptr && !ssm->is_object()) return object.Error("ssm_cfg", "must be an object");
  MAMBAD_ASSIGN_OR_RETURN(const std::string layer, object.String("ssm_cfg.layer", "Mamba1"));
  const MixerEntry* entry = FindMixerByOriginalLayer(layer);
  if (entry == nullptr)
    return object.Error("ssm_cfg.layer", absl::StrCat("\"", Printable(layer), "\" is not supported"));
  MAMBAD_ASSIGN_OR_RETURN(const bool rms_norm, object.Boolean("rms_norm", true));
  if (!rms_norm) return object.Error("rms_norm", "must be true: layer norm is not supported");
  MAMBAD_ASSIGN_OR_RETURN(const int64_t mlp, object.Integer("d_intermediate", 0, kMaxWidth, 0));
  if (mlp != 0) return object.Error("d_intermediate", "must be 0: MLP layers are not supported");
  const json* attention = object.Find("attn_layer_idx");
  if (attention != nullptr && !(attention->is_array() && attention->empty()))
    return object.Error("attn_layer_idx", "must be an empty list: attention layers are not supported");
  return entry;
}

// The authors pad the embedding: vocab_size counts the tokens, the tensor has a multiple of this.
absl::Status PadVocabulary(const JsonObject& object, int64_t* vocab_size) {
  MAMBAD_ASSIGN_OR_RETURN(const int64_t multiple,
                          object.Integer("pad_vocab_size_multiple", 1, kMaxVocabSize, 8));
  *vocab_size = (*vocab_size + multiple - 1) / multiple * multiple;
  if (*vocab_size > kMaxVocabSize)
    return object.Error("pad_vocab_size_multiple", absl::StrCat("pads vocab_size beyond ", kMaxVocabSize));
  return absl::OkStatus();
}

}  // namespace

ConfigFields::ConfigFields(json document, std::string file, bool original_form)
    : json_(std::move(document)), file_(std::move(file)), original_form_(original_form) {}

JsonObject ConfigFields::object() const {
  absl::StatusOr<JsonObject> object = JsonObject::Of(json_, file_);
  MAMBAD_CHECK(object.ok());
  return *std::move(object);
}

std::string_view ConfigFields::KeyInFile(std::string_view key) const {
  if (!original_form_) return key;
  for (const Alias& alias : kAliases) {
    if (alias.key == key) return alias.original;
  }
  return key;
}

absl::StatusOr<int64_t> ConfigFields::Integer(std::string_view key, int64_t low, int64_t high,
                                              std::optional<int64_t> fallback) const {
  return object().Integer(KeyInFile(key), low, high, fallback);
}
absl::StatusOr<double> ConfigFields::Real(std::string_view key, double low, double high,
                                          std::optional<double> fallback) const {
  return object().Real(KeyInFile(key), low, high, fallback);
}
absl::StatusOr<bool> ConfigFields::Boolean(std::string_view key, std::optional<bool> fallback) const {
  return object().Boolean(KeyInFile(key), fallback);
}
absl::StatusOr<std::string> ConfigFields::String(std::string_view key,
                                                 std::optional<std::string> fallback) const {
  return object().String(KeyInFile(key), std::move(fallback));
}
const json* ConfigFields::Find(std::string_view key) const { return object().Find(KeyInFile(key)); }
absl::Status ConfigFields::Error(std::string_view key, std::string_view problem) const {
  return object().Error(KeyInFile(key), problem);
}

absl::StatusOr<ModelConfig> ParseModelConfig(std::string_view text, std::string_view file) {
  MAMBAD_ASSIGN_OR_RETURN(json document, ParseJson(text, file, JsonLimits()));
  MAMBAD_ASSIGN_OR_RETURN(const JsonObject object, JsonObject::Of(document, file));
  const bool original_form =
      !object.Has("architectures") && !object.Has("model_type") && object.Has("d_model");
  MAMBAD_ASSIGN_OR_RETURN(const MixerEntry* entry, original_form ? OriginalEntryOf(object) : EntryOf(object));
  ModelConfig config;
  config.model_type = entry->model_type;
  const ConfigFields fields(document, std::string(file), original_form);
  MAMBAD_ASSIGN_OR_RETURN(config.vocab_size, fields.Integer("vocab_size", 1, kMaxVocabSize));
  if (original_form) MAMBAD_RETURN_IF_ERROR(PadVocabulary(object, &config.vocab_size));
  MAMBAD_ASSIGN_OR_RETURN(config.d_model, fields.Integer("hidden_size", 1, kMaxWidth));
  MAMBAD_ASSIGN_OR_RETURN(config.n_layer, fields.Integer("num_hidden_layers", 1, kMaxLayers));
  MAMBAD_ASSIGN_OR_RETURN(const double epsilon, fields.Real("layer_norm_epsilon", 0, 1, 1e-5));
  config.norm_epsilon = static_cast<float>(epsilon);
  MAMBAD_ASSIGN_OR_RETURN(config.tie_embeddings, fields.Boolean("tie_word_embeddings", true));
  if (document.contains("eos_token_id")) {
    MAMBAD_ASSIGN_OR_RETURN(config.eos_token_ids, ReadTokenIds(object, "eos_token_id", config.vocab_size));
  } else {
    config.eos_token_ids = {0};  // the default of Hugging Face's classes, and <|endoftext|> of GPT-NeoX
  }
  config.fields = std::make_shared<const ConfigFields>(std::move(document), std::string(file), original_form);
  return config;
}

absl::StatusOr<ModelConfig> ReadModelConfig(const std::string& path) {
  MAMBAD_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, JsonLimits().bytes_max));
  return ParseModelConfig(text, path);
}

absl::StatusOr<std::vector<uint32_t>> ReadTokenIds(const JsonObject& object, std::string_view key,
                                                   int64_t vocab_size) {
  const json* value = object.Find(key);
  if (value == nullptr) return std::vector<uint32_t>();
  const json list = value->is_array() ? *value : json::array({*value});
  if (list.size() > kMaxEosTokens)
    return object.Error(key, absl::StrCat("has more than ", kMaxEosTokens, " ids"));
  std::vector<uint32_t> ids;
  for (const json& id : list) {
    if (!id.is_number_unsigned() || id.get<uint64_t>() >= static_cast<uint64_t>(vocab_size))
      return object.Error(key, absl::StrCat("must hold token ids in [0, ", vocab_size, ")"));
    ids.push_back(id.get<uint32_t>());
  }
  return ids;
}

}  // namespace mambad
