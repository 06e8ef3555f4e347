// Damaged and unsupported tokenizer.json files: each is refused in one line that names file and key.
#include "engine/text/tokenizer_json.h"

#include <functional>
#include <string>

#include "absl/strings/match.h"
#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"
#include "tests/text/golden.h"

namespace mambad {
namespace {

using nlohmann::json;

// Eight tokens and two merges.
json Small() {
  return json::parse(R"({
    "version": "1.0", "truncation": null, "padding": null, "added_tokens": [
      {"id": 0, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
      {"id": 8, "content": "<x>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": true, "special": false}],
    "normalizer": {"type": "NFC"},
    "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "post_processor": {"type": "TemplateProcessing",
      "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}], "pair": [],
      "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
    "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
      "end_of_word_suffix": "", "fuse_unk": false, "byte_fallback": false, "ignore_merges": false,
      "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3, "ab": 4, "abc": 5, "Ġ": 6, "d": 7}, "merges": ["a b", ["ab", "c"]]}
  })");
}

struct Damage {
  const char* name;
  std::function<void(json&)> apply;
  const char* message;  // a part of the error
};

void SetAt(json& root, const char* pointer, json value) {
  root[json::json_pointer(pointer)] = std::move(value);
}

Damage Set(const char* pointer, json value, const char* message) {
  return {pointer, [pointer, value](json& root) { SetAt(root, pointer, value); }, message};
}

Damage Erase(const char* parent, const char* key, const char* message) {
  return {key, [parent, key](json& root) { root[json::json_pointer(parent)].erase(key); }, message};
}

json Split(json pattern) {
  return {{"type", "Sequence"},
          {"pretokenizers",
           {{{"type", "Split"}, {"pattern", std::move(pattern)}, {"behavior", "Isolated"}, {"invert", false}},
            {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"trim_offsets", true}}}}};
}

std::vector<Damage> Damages() {
  return {
      Set("/extra", 1, "F: has the unknown key \"extra\""),
      Set("/version", "2.0", "F: version: must be"),
      Set("/truncation", json::object(), "F: truncation: is not supported"),
      Set("/padding", json::object(), "F: padding: is not supported"),
      Set("/normalizer/type", "NFKC", "F: normalizer.type: unsupported normalizer \"NFKC\""),
      Set("/normalizer", 3, "F: normalizer: must be an object"),
      Set("/normalizer", json{{"type", "Sequence"}, {"normalizers", {{{"type", "Lowercase"}}}}},
          "F: normalizer.normalizers[0].type: unsupported normalizer"),
      Set("/pre_tokenizer", nullptr, "F: pre_tokenizer: has no ByteLevel"),
      Set("/pre_tokenizer/type", "Whitespace", "F: pre_tokenizer.type: unsupported pre-tokenizer"),
      Set("/pre_tokenizer/use_regex", "yes", "F: pre_tokenizer.use_regex: must be true or false"),
      Set("/pre_tokenizer/more", 1, "F: pre_tokenizer: has the unknown key"),
      Erase("/pre_tokenizer", "add_prefix_space", "F: pre_tokenizer.add_prefix_space: is missing"),
      Set("/pre_tokenizer", Split({{"Regex", "\\w+"}}),
          "F: pre_tokenizer.pretokenizers[0].pattern.Regex: has an unsupported escape at byte 1"),
      Set("/pre_tokenizer", Split({{"Regex", "(a"}}), "a group without its end"),
      Set("/pre_tokenizer", Split({{"Regex", "[z-a]"}}), "pattern.Regex: is refused at byte"),
      Set("/pre_tokenizer", Split({{"String", ""}}), "pattern.String: must have 1 to"),
      Set("/pre_tokenizer", Split({{"Glob", "a"}}), "pattern: has the unknown key"),
      Set("/post_processor/type", "RobertaProcessing", "F: post_processor.type: unsupported post-processor"),
      Set("/post_processor/special_tokens/<s>/ids/0", 9, "ids[0]: must be a whole number from 0 to 8"),
      Set("/post_processor/special_tokens", json::object(),
          "F: post_processor.special_tokens.<s>: is missing"),
      Set("/post_processor/single/1/Sequence/id", "B", "F: post_processor.single[1].Sequence: must be \"A\""),
      Set("/post_processor/single", json::array(), "F: post_processor.single: has no Sequence"),
      {"two templates",
       [](json& root) {
         const json one = root["post_processor"];
         root["post_processor"] = {{"type", "Sequence"}, {"processors", {one, one}}};
       },
       "F: post_processor.processors[1]: is a second template"},
      Set("/decoder", nullptr, "F: decoder: must be ByteLevel"),
      Set("/decoder/type", "WordPiece", "F: decoder.type: unsupported decoder"),
      Erase("", "decoder", "F: decoder: must be ByteLevel"),
      Erase("", "model", "F: model: is missing"),
      Set("/model/type", "Unigram", "F: model.type: must be \"BPE\""),
      Set("/model/dropout", 0.1, "F: model.dropout: is not supported"),
      Set("/model/unk_token", "<s>", "F: model.unk_token: is not supported where it would be used"),
      Set("/model/byte_fallback", true, "F: model.byte_fallback: is not supported"),
      Set("/model/end_of_word_suffix", "</w>", "F: model.end_of_word_suffix: is not supported"),
      Set("/model/continuing_subword_prefix", "##", "F: model.continuing_subword_prefix: is not supported"),
      Set("/model/ignore_merges", 1, "F: model.ignore_merges: must be true or false"),
      Set("/model/vocab", json::array(), "F: model.vocab: must be an object"),
      Set("/model/vocab", json::object(), "F: model.vocab: must have 1 to"),
      Set("/model/vocab/d", -1, "F: model.vocab[\"d\"]: must be a whole number"),
      Set("/model/vocab/d", 7.5, "F: model.vocab[\"d\"]: must be a whole number"),
      Set("/model/vocab/d", "7", "F: model.vocab[\"d\"]: must be a whole number"),
      Set("/model/vocab/d", uint64_t{1} << 40, "F: model.vocab[\"d\"]: must be a whole number"),
      Set("/model/vocab/d", 6, "another token has the id 6 as well"),
      Set("/model/vocab/d", 9,
          "F: model.vocab: the ids of 8 tokens must be 0 to 7, but no token has the id 7"),
      Set("/model/vocab", json{{"x\ny", -1}}, "F: model.vocab[\"x\\ny\"]"),
      Set("/model/merges", "a b", "F: model.merges: must be an array"),
      Set("/model/merges/0", "a", "F: model.merges[0]: must be two tokens with one space"),
      Set("/model/merges/0", "a b c", "F: model.merges[0]: must be two tokens with one space"),
      Set("/model/merges/0", 5, "F: model.merges[0]: must be a string or an array of two"),
      Set("/model/merges/1", json{"ab"}, "F: model.merges[1]: must have two tokens"),
      Set("/model/merges/1", json{"ab", 1}, "F: model.merges[1][1]: must be a string"),
      Set("/model/merges/0", "a z", "F: model.merges[0]: \"z\" is no token of model.vocab"),
      Set("/model/merges/0", "b a", "F: model.merges[0]: its result \"ba\" is no token"),
      Set("/added_tokens/1/id", 10, "F: added_tokens[1]: id must be 8, not 10"),
      Set("/added_tokens/0/id", 1, "F: added_tokens[0]: id must be 0, not 1"),
      Set("/added_tokens/1/content", "<s>", "F: added_tokens[1]: another added token has the same content"),
      Set("/added_tokens/1/content", "", "F: added_tokens[1].content: must have 1 to 1024 bytes"),
      Set("/added_tokens/1/content", std::string(1025, 'x'),
          "F: added_tokens[1].content: must have 1 to 1024"),
      Set("/added_tokens/1/lstrip", nullptr, "F: added_tokens[1].lstrip: must be true or false"),
      Set("/added_tokens/1", 0, "F: added_tokens[1]: must be an object"),
      Set("/added_tokens", 0, "F: added_tokens: must be an array"),
  };
}

TEST(TokenizerJsonTest, AcceptsTheUndamagedFile) {
  const auto tokenizer = Tokenizer::Parse(Small().dump(), "F");
  ASSERT_TRUE(tokenizer.ok()) << tokenizer.status();
  EXPECT_EQ(*(*tokenizer)->Encode("abc<x>b"), (std::vector<uint32_t>{0, 5, 8, 2}));
}

TEST(TokenizerJsonTest, NamesFileAndKeyOfEveryDamage) {
  for (const Damage& damage : Damages()) {
    json root = Small();
    damage.apply(root);
    const absl::Status status = Tokenizer::Parse(root.dump(), "F").status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << damage.name;
    EXPECT_TRUE(absl::StrContains(status.message(), damage.message)) << damage.name << ": " << status;
    EXPECT_FALSE(absl::StrContains(status.message(), "\n")) << status;
  }
}

TEST(TokenizerJsonTest, RefusesTwoTokensWithOneNormalForm) {
  json root = Small();
  json token = root["added_tokens"][1];
  token["content"] = "e\u0301";
  root["added_tokens"][1] = token;
  token["content"] = "\u00e9";
  token["id"] = 9;
  root["added_tokens"].push_back(token);
  const absl::Status status = Tokenizer::Parse(root.dump(), "F").status();
  EXPECT_TRUE(
      absl::StrContains(status.message(), "added_tokens[2]: another added token has the same normalized"))
      << status;
}

TEST(TokenizerJsonTest, RefusesEveryTruncation) {
  const std::string whole = Small().dump();
  for (size_t size = 0; size < whole.size(); ++size) {
    const absl::Status status = Tokenizer::Parse(whole.substr(0, size), "F").status();
    ASSERT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << size;
  }
}

TEST(TokenizerJsonTest, RefusesAFileThatIsTooLarge) {
  const absl::Status status = Tokenizer::Parse(std::string(kMaxTokenizerBytes + 1, ' '), "F").status();
  EXPECT_EQ(status.message(), "F: is larger than 64 MiB");
}

}  // namespace
}  // namespace mambad
