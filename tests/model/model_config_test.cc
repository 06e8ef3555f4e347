#include "engine/model/model_config.h"

#include <string>

#include "engine/model/mixer_model.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kHuggingFace[] = R"({
  "architectures": ["MambaForCausalLM"], "vocab_size": 100, "hidden_size": 64, "num_hidden_layers": 3,
  "state_size": 8, "conv_kernel": 3, "expand": 2, "time_step_rank": "auto", "eos_token_id": [5, 7]})";

constexpr char kOriginal[] = R"({
  "d_model": 64, "n_layer": 3, "vocab_size": 100, "ssm_cfg": {"d_state": 8, "d_conv": 3}, "rms_norm": true,
  "residual_in_fp32": true, "fused_add_norm": true, "pad_vocab_size_multiple": 8})";

// The config and, when it parses, the layers that it asks for.
absl::Status Check(const std::string& text) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(text, "config.json");
  if (!config.ok()) return config.status();
  return ModelPlan::Of(*config).status();
}

std::string With(std::string text, const std::string& from, const std::string& to) {
  const size_t at = text.find(from);
  EXPECT_NE(at, std::string::npos) << from;
  return text.replace(at, from.size(), to);
}

TEST(ModelConfigTest, ReadsTheHuggingFaceForm) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(kHuggingFace, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "mamba");
  EXPECT_EQ(config->vocab_size, 100);
  EXPECT_EQ(config->d_model, 64);
  EXPECT_EQ(config->n_layer, 3);
  EXPECT_TRUE(config->tie_embeddings);
  EXPECT_THAT(config->eos_token_ids, ElementsAre(5, 7));
  const absl::StatusOr<ModelPlan> plan = ModelPlan::Of(*config);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->state_layout.tensors[0].spec.shape, ElementsAre(128, 2));
  EXPECT_THAT(plan->state_layout.tensors[1].spec.shape, ElementsAre(128, 8));
}

TEST(ModelConfigTest, ReadsTheOriginalForm) {
  const absl::StatusOr<ModelConfig> config = ParseModelConfig(kOriginal, "config.json");
  ASSERT_TRUE(config.ok()) << config.status();
  EXPECT_EQ(config->model_type, "mamba");
  EXPECT_EQ(config->vocab_size, 104);  // padded to a multiple of 8
  EXPECT_THAT(config->eos_token_ids, ElementsAre(0));
  const absl::StatusOr<ModelPlan> plan = ModelPlan::Of(*config);
  ASSERT_TRUE(plan.ok()) << plan.status();
  EXPECT_THAT(plan->state_layout.tensors[1].spec.shape, ElementsAre(128, 8));
}

TEST(ModelConfigTest, StatedInnerWidthBeatsExpand) {
  const std::string text = With(kHuggingFace, "\"expand\": 2", "\"expand\": 16, \"intermediate_size\": 96");
  const absl::StatusOr<ModelPlan> plan = ModelPlan::Of(*ParseModelConfig(text, "config.json"));
  ASSERT_TRUE(plan.ok());
  EXPECT_EQ(plan->state_layout.tensors[0].spec.shape[0], 96);
}

TEST(ModelConfigTest, NullEosMeansNone) {
  const std::string text = With(kHuggingFace, "[5, 7]", "null");
  EXPECT_TRUE(ParseModelConfig(text, "config.json")->eos_token_ids.empty());
}

struct BadConfig {
  std::string from;
  std::string to;
  std::string expected;  // in the error, beside the file's name
  const char* base = kHuggingFace;
};

TEST(ModelConfigTest, RefusesWhatItCannotServe) {
  const BadConfig bad[] = {
      {"MambaForCausalLM", "LlamaForCausalLM", "architectures"},
      {"[\"MambaForCausalLM\"]", "\"MambaForCausalLM\"", "architectures"},
      {"[\"MambaForCausalLM\"]", "[]", "architectures"},
      {"\"architectures\": [\"MambaForCausalLM\"]", "\"model_type\": \"mamba2\"", "model_type"},
      {"\"architectures\": [\"MambaForCausalLM\"],", "", "architectures is missing"},
      {"\"vocab_size\": 100,", "", "vocab_size is missing"},
      {"\"vocab_size\": 100", "\"vocab_size\": 0", "vocab_size"},
      {"\"vocab_size\": 100", "\"vocab_size\": 1e300", "vocab_size"},
      {"\"vocab_size\": 100", "\"vocab_size\": 18446744073709551615", "vocab_size"},
      {"\"hidden_size\": 64", "\"hidden_size\": -64", "hidden_size"},
      {"\"hidden_size\": 64", "\"hidden_size\": 1099511627776", "hidden_size"},
      {"\"hidden_size\": 64", "\"hidden_size\": \"64\"", "hidden_size"},
      {"\"hidden_size\": 64", "\"hidden_size\": 64.5", "hidden_size"},
      {"\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1000000000", "num_hidden_layers"},
      {"\"state_size\": 8", "\"state_size\": 0", "state_size"},
      {"\"state_size\": 8", "\"state_size\": true", "state_size"},
      {"\"conv_kernel\": 3", "\"conv_kernel\": 1000", "conv_kernel"},
      {"\"expand\": 2", "\"expand\": 0", "expand"},
      {"\"expand\": 2", "\"expand\": -1", "expand"},
      {"\"expand\": 2", "\"expand\": 100000", "expand"},
      {"\"expand\": 2", "\"expand\": []", "expand"},
      {"\"auto\"", "\"fast\"", "time_step_rank"},
      {"\"auto\"", "0", "time_step_rank"},
      {"\"eos_token_id\": [5, 7]", "\"eos_token_id\": 100", "eos_token_id"},
      {"\"eos_token_id\": [5, 7]", "\"eos_token_id\": \"</s>\"", "eos_token_id"},
      {"\"state_size\": 8", "\"state_size\": 8, \"hidden_act\": \"gelu\"", "hidden_act"},
      {"\"state_size\": 8", "\"state_size\": 8, \"layer_norm_epsilon\": -1", "layer_norm_epsilon"},
      {"\"state_size\": 8", "\"state_size\": 8, \"use_bias\": 1", "use_bias"},
      {"\"state_size\": 8", "\"state_size\": 8, \"tie_word_embeddings\": \"yes\"", "tie_word_embeddings"},
      {"\"d_model\": 64", "\"d_model\": 0", "d_model", kOriginal},
      {"\"d_state\": 8", "\"d_state\": 100000", "ssm_cfg.d_state", kOriginal},
      {"{\"d_state\": 8, \"d_conv\": 3}", "7", "ssm_cfg", kOriginal},
      {"\"d_state\": 8", "\"layer\": \"Mamba2\"", "ssm_cfg.layer", kOriginal},
      {"\"rms_norm\": true", "\"rms_norm\": false", "rms_norm", kOriginal},
      {"\"rms_norm\": true", "\"attn_layer_idx\": [1]", "attn_layer_idx", kOriginal},
      {"\"rms_norm\": true", "\"d_intermediate\": 128", "d_intermediate", kOriginal},
      {"\"pad_vocab_size_multiple\": 8", "\"pad_vocab_size_multiple\": 0", "pad_vocab_size_multiple",
       kOriginal},
  };
  for (const BadConfig& config : bad) {
    const absl::Status status = Check(With(config.base, config.from, config.to));
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << config.to;
    const std::string message(status.message().data(), status.message().size());
    EXPECT_THAT(message, HasSubstr("config.json: " + config.expected)) << config.to;
    EXPECT_EQ(message.find('\n'), std::string::npos);
  }
}

TEST(ModelConfigTest, RefusesWhatIsNoJsonObject) {
  for (const std::string text :
       {"", "{", "[]", "null", "7", "{\"a\": 1e999}", "{\"a\": \"\xff\"}", "\x1f\x8b"}) {
    EXPECT_EQ(Check(text).code(), absl::StatusCode::kInvalidArgument) << text;
  }
  EXPECT_THAT(std::string(Check(std::string(100'000, '[')).message()), HasSubstr("nested deeper"));
  EXPECT_THAT(std::string(Check(std::string(2'000'000, ' ')).message()), HasSubstr("bytes"));
}

TEST(ModelConfigTest, RefusesMoreParametersThanAnyFileHolds) {
  std::string text = With(kHuggingFace, "\"hidden_size\": 64", "\"hidden_size\": 131072");
  text = With(text, "\"num_hidden_layers\": 3", "\"num_hidden_layers\": 1024");
  text = With(text, "\"expand\": 2", "\"expand\": 1");
  EXPECT_THAT(std::string(Check(text).message()), HasSubstr("parameters"));
}

}  // namespace
}  // namespace mambad
