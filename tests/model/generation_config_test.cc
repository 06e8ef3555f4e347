#include "engine/model/generation_config.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

absl::StatusOr<GenerationDefaults> Parse(const std::string& text) {
  return ParseGenerationConfig(text, "generation_config.json", /*vocab_size=*/100);
}

TEST(GenerationConfigTest, ReadsEveryDefault) {
  const auto defaults =
      Parse(R"({"temperature": 0.7, "top_k": 40, "top_p": 0.9, "min_p": 0.05, "do_sample": true,
      "repetition_penalty": 1.1, "max_new_tokens": 64, "eos_token_id": [1, 2], "unknown": {}})");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_FLOAT_EQ(*defaults->temperature, 0.7f);
  EXPECT_EQ(*defaults->top_k, 40u);
  EXPECT_FLOAT_EQ(*defaults->top_p, 0.9f);
  EXPECT_FLOAT_EQ(*defaults->min_p, 0.05f);
  EXPECT_FLOAT_EQ(*defaults->repetition_penalty, 1.1f);
  EXPECT_EQ(*defaults->max_output_tokens, 64u);
  EXPECT_THAT(*defaults->eos_token_ids, ElementsAre(1, 2));
}

TEST(GenerationConfigTest, LeavesUnsetWhatTheFileDoesNotSay) {
  const auto defaults = Parse(R"({"eos_token_id": null})");
  ASSERT_TRUE(defaults.ok()) << defaults.status();
  EXPECT_FALSE(defaults->temperature || defaults->top_k || defaults->top_p || defaults->eos_token_ids);
}

TEST(GenerationConfigTest, NoSamplingMeansTemperatureZero) {
  EXPECT_EQ(*Parse(R"({"do_sample": false, "temperature": 0.7})")->temperature, 0.0f);
}

TEST(GenerationConfigTest, AFolderWithoutTheFileHasNoDefaults) {
  EXPECT_TRUE(ReadGenerationConfig(TestDataPath("no-such-folder/generation_config.json"), 100).ok());
}

TEST(GenerationConfigTest, RefusesValuesOutOfRangeNamingTheKey) {
  for (const auto& [key, value] : std::vector<std::pair<std::string, std::string>>{
           {"temperature", "-1"},
           {"temperature", "\"hot\""},
           {"top_k", "-1"},
           {"top_p", "0"},
           {"top_p", "1.5"},
           {"min_p", "2"},
           {"repetition_penalty", "0"},
           {"max_new_tokens", "0"},
           {"max_new_tokens", "1e18"},
           {"do_sample", "1"},
           {"eos_token_id", "-1"},
           {"eos_token_id", "100"},
       }) {
    const absl::Status status = Parse("{\"" + key + "\": " + value + "}").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << key << " " << value;
    EXPECT_THAT(std::string(status.message()), HasSubstr("generation_config.json: " + key));
  }
}

}  // namespace
}  // namespace mambad
