// Replays the seeds of tokenizer_fuzz and deterministic mutations of them in builds without libFuzzer.
#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include "engine/text/tokenizer.h"
#include "gtest/gtest.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size);

namespace {

void RunOnce(const std::string& input) {
  LLVMFuzzerTestOneInput(reinterpret_cast<const uint8_t*>(input.data()), input.size());
}

// Small files that use everything the reader knows, each with a text.
std::vector<std::string> Seeds() {
  const std::string model =
      R"("model":{"type":"BPE","dropout":null,"unk_token":null,"continuing_subword_prefix":null,"end_of_word_suffix":"",)"
      R"("fuse_unk":false,"byte_fallback":false,"ignore_merges":true,"vocab":{"<s>":0,"a":1,"b":2,"c":3,"ab":4,"abc":5,)"
      R"("Ġ":6,"Ã":7,"©":8,"Ã©":9,"1":10},"merges":["a b",["ab","c"],"Ã ©"]})";
  const std::string byte_level =
      R"({"type":"ByteLevel","add_prefix_space":false,"trim_offsets":true,"use_regex":true})";
  const std::string added =
      R"("added_tokens":[{"id":0,"content":"<s>","single_word":false,"lstrip":true,"rstrip":true,"normalized":false,)"
      R"("special":true},{"id":11,"content":"e\u0301","single_word":true,"lstrip":false,"rstrip":false,)"
      R"("normalized":true,"special":false}])";
  const auto file = [&](const std::string& pre_tokenizer, const std::string& post_processor) {
    return R"({"version":"1.0","truncation":null,"padding":null,"normalizer":{"type":"NFC"},)" + added +
           R"(,"pre_tokenizer":)" + pre_tokenizer + R"(,"post_processor":)" + post_processor +
           R"(,"decoder":)" + byte_level + "," + model + "}";
  };
  const std::string steps =
      R"j({"type":"Sequence","pretokenizers":[{"type":"Split","pattern":{"Regex":)j"
      R"j("[^\\s\\p{L}]{1,3}|(?i:'t|x)|a*?(?=b)|\\s+(?!\\S)"},"behavior":"MergedWithNext","invert":false},)j"
      R"j({"type":"Split","pattern":{"String":"b"},"behavior":"Isolated","invert":true},)j"
      R"j({"type":"Digits","individual_digits":true},{"type":"Punctuation","behavior":"Contiguous"},)j" +
      byte_level + "]}";
  const std::string around =
      R"({"type":"Sequence","processors":[)" + byte_level +
      R"(,{"type":"TemplateProcessing","single":[{"SpecialToken":{"id":"<s>","type_id":0}},{"Sequence":{"id":"A","type_id":0}}],)"
      R"("pair":[],"special_tokens":{"<s>":{"id":"<s>","ids":[0,5],"tokens":["<s>","abc"]}}}]})";
  const std::string text = std::string("\xFF") + "abcab \u00e9 e\u0301 <s>  11 a1b2, bcab\n\t e\u0301\u0327";
  return {file(byte_level, "null") + text, file(steps, around) + text};
}

TEST(TokenizerFuzzTest, SurvivesItsSeeds) {
  for (const std::string& seed : Seeds()) {
    const auto tokenizer = mambad::Tokenizer::Parse(seed.substr(0, seed.rfind('\xFF')), "F");
    EXPECT_TRUE(tokenizer.ok()) << tokenizer.status();
    RunOnce(seed);
  }
}

TEST(TokenizerFuzzTest, SurvivesMutatedSeeds) {
  const std::vector<std::string> seeds = Seeds();
  const std::string interesting[] = {
      "{",       "}",       "[",    "]",    "\"",       ",", ":", "null", "-1",   "1e9",     "4294967296",
      "\\u0000", "\\ud800", "\xFF", "\xC3", "\\\\p{L}", "(", ")", "*",    "true", "\"a b\"", "\u0301"};
  std::mt19937 random(13);
  for (int round = 0; round < 40000; ++round) {
    std::string input = seeds[random() % seeds.size()];
    for (int i = 0, n = 1 + static_cast<int>(random() % 3); i < n; ++i) {
      const size_t at = random() % input.size();
      switch (random() % 5) {
        case 0:
          input[at] = static_cast<char>(random());
          break;
        case 1:
          input.erase(at, 1 + random() % 12);
          break;
        case 2:
          input.insert(at, interesting[random() % std::size(interesting)]);
          break;
        case 3:
          input.insert(at, input.substr(random() % input.size(), random() % 40));
          break;
        default:
          input.replace(at, 1, interesting[random() % std::size(interesting)]);
      }
      if (input.empty()) input = "{";
    }
    RunOnce(input);
  }
}

}  // namespace
