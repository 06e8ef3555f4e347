#include "engine/text/tokenizer.h"

#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <memory>
#include <thread>

#include "absl/strings/match.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/text/golden.h"

namespace mambad {
namespace {

using golden::IdsDigest;
using golden::ReadJson;
using golden::TextDigest;
using nlohmann::json;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

using TokenizerPtr = std::unique_ptr<const Tokenizer>;

TokenizerPtr Load(const std::string& path) {
  absl::StatusOr<TokenizerPtr> tokenizer = Tokenizer::Load(path);
  EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
  return tokenizer.ok() ? *std::move(tokenizer) : nullptr;
}

std::vector<uint32_t> Encode(const Tokenizer& tokenizer, std::string_view text, EncodeOptions options = {}) {
  absl::StatusOr<std::vector<uint32_t>> ids = tokenizer.Encode(text, options);
  EXPECT_TRUE(ids.ok()) << ids.status();
  return ids.ok() ? *std::move(ids) : std::vector<uint32_t>();
}

std::string Repeat(const std::string& unit, int count) {
  std::string text;
  for (int i = 0; i < count; ++i) text += unit;
  return text;
}

struct Model {
  std::string name, path, readable;
};

const std::vector<Model> kModels = {
    {"gpt-neox", golden::kNeoxPath, golden::kData + "/golden/gpt-neox-tokenizer.json"},
    {"mamba-tales", golden::kTalesPath, golden::kData + "/golden/tales-tokenizer.json"},
};

TEST(TokenizerTest, GivesTheIdsOfTheReadableCases) {
  for (const Model& model : kModels) {
    const TokenizerPtr tokenizer = Load(model.path);
    ASSERT_NE(tokenizer, nullptr);
    const json cases = ReadJson(model.readable);
    ASSERT_GT(cases.size(), 10u);
    for (const json& one : cases) {
      const std::string text = one["text"];
      const std::vector<uint32_t> want = one["ids"];
      EXPECT_EQ(Encode(*tokenizer, text), want) << model.name << ": " << text;
    }
  }
}

TEST(TokenizerTest, GivesTheIdsAndTheTextOfHuggingFace) {
  const json file = ReadJson(golden::kData + "/golden/tokenizer-cases.json");
  ASSERT_GT(file["texts"].size(), 1000u);
  for (const Model& model : kModels) {
    const TokenizerPtr tokenizer = Load(model.path);
    ASSERT_NE(tokenizer, nullptr);
    const json& decoded = file["decoded"][model.name];
    for (size_t i = 0; i < file["texts"].size(); ++i) {
      const std::string text = file["texts"][i];
      const std::vector<uint32_t> ids = Encode(*tokenizer, text);
      ASSERT_EQ(IdsDigest(ids), file["ids"][model.name][i].get<std::string>())
          << model.name << " " << i << ": " << json(text);
      const std::string back = tokenizer->Decode(ids, false);
      const std::string key = std::to_string(i);
      ASSERT_EQ(TextDigest(back), decoded.contains(key) ? decoded[key].get<std::string>() : TextDigest(text))
          << model.name << ": " << json(text);
    }
  }
}

TEST(TokenizerTest, GivesTheIdsOfHuggingFaceForLongRuns) {
  const json file = ReadJson(golden::kData + "/golden/tokenizer-cases.json");
  ASSERT_GT(file["runs"].size(), 10u);
  for (const Model& model : kModels) {
    const TokenizerPtr tokenizer = Load(model.path);
    ASSERT_NE(tokenizer, nullptr);
    for (size_t i = 0; i < file["runs"].size(); ++i) {
      const json& run = file["runs"][i];
      EXPECT_EQ(IdsDigest(Encode(*tokenizer, Repeat(run["unit"], run["count"]))),
                file["run_ids"][model.name][i].get<std::string>())
          << model.name << ": " << run;
    }
  }
}

// A tokenizer.json per variant: every supported pre-tokenizer, post-processor and kind of added token.
TEST(TokenizerTest, GivesTheIdsOfHuggingFaceForEveryKindOfFile) {
  const json file = ReadJson(golden::kData + "/golden/tokenizer-variants.json");
  ASSERT_GT(file["variants"].size(), 40u);
  for (const json& variant : file["variants"]) {
    const std::string name = variant["name"];
    json merged = file["base"];
    merged.update(variant["set"]);
    if (variant.contains("set_model")) merged["model"].update(variant["set_model"]);
    absl::StatusOr<TokenizerPtr> tokenizer = Tokenizer::Parse(merged.dump(), name);
    ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
    std::vector<uint32_t> all, all_plain;
    std::string decoded, decoded_skip;
    for (size_t i = 0; i < file["texts"].size(); ++i) {
      const std::string text = file["texts"][i];
      const std::vector<uint32_t> ids = Encode(**tokenizer, text);
      EXPECT_EQ(absl::StrFormat("%08x", golden::Fnv1a(ids) & 0xFFFFFFFF),
                variant["each"][i].get<std::string>())
          << name << " " << i << ": " << json(text) << " " << json(ids);
      const std::vector<uint32_t> plain = Encode(**tokenizer, text, {.add_special_tokens = false});
      constexpr uint32_t kEnd = 0xFFFFFFFF;
      all.insert(all.end(), ids.begin(), ids.end());
      all.push_back(kEnd);
      all_plain.insert(all_plain.end(), plain.begin(), plain.end());
      all_plain.push_back(kEnd);
      decoded += (*tokenizer)->Decode(ids, false);
      decoded_skip += (*tokenizer)->Decode(ids, true);
    }
    EXPECT_EQ(IdsDigest(all), variant["ids"].get<std::string>()) << name;
    EXPECT_EQ(IdsDigest(all_plain), variant["plain"].get<std::string>()) << name;
    EXPECT_EQ(TextDigest(decoded), variant["decoded"].get<std::string>()) << name;
    EXPECT_EQ(TextDigest(decoded_skip), variant["decoded_skip"].get<std::string>()) << name;
  }
}

TEST(TokenizerTest, LoadsARegularFileAndNothingElse) {
  const std::string path = testing::TempDir() + "/mambad-tokenizer-" + std::to_string(::getpid()) + ".json";
  EXPECT_TRUE(absl::IsNotFound(Tokenizer::Load(path).status()));
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  const absl::Status status = Tokenizer::Load(path).status();
  ::unlink(path.c_str());
  EXPECT_TRUE(absl::IsInvalidArgument(status)) << status;
  EXPECT_THAT(std::string(status.message()), HasSubstr("not a regular file"));
}

TEST(TokenizerTest, KnowsItsTokens) {
  const TokenizerPtr tokenizer = Load(golden::kNeoxPath);
  ASSERT_NE(tokenizer, nullptr);
  EXPECT_EQ(tokenizer->vocab_size(), 50277u);
  EXPECT_THAT(tokenizer->special_ids(), ElementsAre(0, 1));
  EXPECT_TRUE(tokenizer->IsSpecial(0));
  EXPECT_FALSE(tokenizer->IsSpecial(50276));
  EXPECT_FALSE(tokenizer->IsSpecial(50277));
  EXPECT_EQ(tokenizer->TokenBytes(50276), "  ");
  EXPECT_EQ(tokenizer->TokenBytes(50277), "");
  const absl::StatusOr<uint32_t> the = tokenizer->TokenId("Ġthe");
  ASSERT_TRUE(the.ok());
  EXPECT_EQ(tokenizer->TokenBytes(*the), " the");
  EXPECT_EQ(tokenizer->TokenName(*the), "Ġthe");
  EXPECT_EQ(*tokenizer->TokenId("<|padding|>"), 1u);
  EXPECT_FALSE(tokenizer->TokenId("<none>").ok());
  EXPECT_EQ(tokenizer->digest().size(), 32u);
  EXPECT_NE(tokenizer->digest(), Load(golden::kTalesPath)->digest());
}

TEST(TokenizerTest, LeavesIdsWithoutATokenAndSkippedSpecialTokensOut) {
  const TokenizerPtr tokenizer = Load(golden::kNeoxPath);
  ASSERT_NE(tokenizer, nullptr);
  std::vector<uint32_t> ids = Encode(*tokenizer, "one<|endoftext|>two");
  ids.push_back(4'000'000'000u);
  EXPECT_EQ(tokenizer->Decode(ids, false), "one<|endoftext|>two");
  EXPECT_EQ(tokenizer->Decode(ids, true), "onetwo");
}

TEST(TokenizerTest, RefusesTextThatIsNotUtf8) {
  const TokenizerPtr tokenizer = Load(golden::kTalesPath);
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string& text : {std::string("a\xFF"), std::string("\xC3"), std::string("\xED\xA0\x80")}) {
    const absl::Status status = tokenizer->Encode(text).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
    EXPECT_EQ(status.message(), "the text is not valid UTF-8");
  }
}

TEST(TokenizerTest, RefusesTextThatIsTooLong) {
  const TokenizerPtr tokenizer = Load(golden::kTalesPath);
  ASSERT_NE(tokenizer, nullptr);
  const absl::Status status = tokenizer->Encode(std::string(Tokenizer::kMaxTextBytes + 1, 'a')).status();
  EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument);
}

TEST(TokenizerTest, GivesNoIdsForNoText) { EXPECT_THAT(Encode(*Load(golden::kTalesPath), ""), IsEmpty()); }

// The figure asked for is 1 s for the release build on a quiet machine; the limit leaves room for sanitizers
// and neighbours, and still ends any quadratic loop, which would take minutes.
TEST(TokenizerTest, EncodesAMegabyteOfAnythingInSeconds) {
  constexpr auto kLimit = std::chrono::seconds(20);
  const TokenizerPtr tokenizer = Load(golden::kNeoxPath);
  ASSERT_NE(tokenizer, nullptr);
  for (const std::string& unit :
       {std::string("a"), std::string(" "), std::string("\u0301\u0327"), std::string("ab")}) {
    const std::string text = Repeat(unit, static_cast<int>(1'000'000 / unit.size()));
    const auto start = std::chrono::steady_clock::now();
    const std::vector<uint32_t> ids = Encode(*tokenizer, text);
    EXPECT_LT(std::chrono::steady_clock::now() - start, kLimit) << json(unit);
    EXPECT_EQ(tokenizer->Decode(ids, false).size(), text.size()) << json(unit);
  }
}

TEST(TokenizerTest, ServesManyThreads) {
  const TokenizerPtr tokenizer = Load(golden::kNeoxPath);
  ASSERT_NE(tokenizer, nullptr);
  const std::string text = Repeat("Hello, wörld  42!\n", 200);
  const std::vector<uint32_t> want = Encode(*tokenizer, text);
  std::vector<std::vector<uint32_t>> got(4);
  std::vector<std::thread> threads;
  for (std::vector<uint32_t>& ids : got) {
    threads.emplace_back([&tokenizer, &text, &ids] { ids = Encode(*tokenizer, text); });
  }
  for (std::thread& thread : threads) thread.join();
  for (const std::vector<uint32_t>& ids : got) EXPECT_EQ(ids, want);
}

TEST(TokenizerTest, NamesTheFileThatIsNotThere) {
  const absl::Status status = Tokenizer::Load("/nonexistent/tokenizer.json").status();
  EXPECT_EQ(status.code(), absl::StatusCode::kNotFound);
  EXPECT_TRUE(absl::StrContains(status.message(), "/nonexistent/tokenizer.json"));
}

}  // namespace
}  // namespace mambad
