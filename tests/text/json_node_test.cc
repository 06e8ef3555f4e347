#include "engine/text/json_node.h"

#include <string>

#include "gtest/gtest.h"

namespace mambad {
namespace {

TEST(JsonNodeTest, ParsesWhatTheLibraryParses) {
  const std::string text = R"({"a": [1, -2, 3.5, "x", null, true, {"b": {}}, []], "c": "\u00e9"})";
  const absl::StatusOr<nlohmann::json> parsed = ParseJson(text, "F");
  ASSERT_TRUE(parsed.ok()) << parsed.status();
  EXPECT_EQ(*parsed, nlohmann::json::parse(text));
}

TEST(JsonNodeTest, RefusesWhatIsNotJson) {
  for (const std::string& text :
       {std::string(), std::string("{"), std::string("[1,]"), std::string("{\"a\" 1}"), std::string("1 2"),
        std::string("\"\xFF\""), std::string("nul"), std::string("\"\\ud800\""), std::string("1e999")}) {
    EXPECT_FALSE(ParseJson(text, "F").ok()) << text;
  }
}

TEST(JsonNodeTest, RefusesADuplicateKey) {
  EXPECT_EQ(ParseJson(R"({"x": {"a": 1, "b": 2, "a": 3}})", "F").status().message(),
            "F: the key \"a\" appears twice in one object");
  EXPECT_TRUE(ParseJson(R"({"x": {"a": 1}, "y": {"a": 1}})", "F").ok());
}

TEST(JsonNodeTest, RefusesDeepNesting) {
  const auto nested = [](size_t depth) { return std::string(depth, '[') + std::string(depth, ']'); };
  EXPECT_TRUE(ParseJson(nested(kMaxJsonDepth), "F").ok());
  EXPECT_EQ(ParseJson(nested(kMaxJsonDepth + 1), "F").status().message(), "F: is nested deeper than 64");
  EXPECT_FALSE(ParseJson(std::string(10'000'000, '['), "F").ok());
}

TEST(JsonNodeTest, QuotesHostileNamesOnOneLine) {
  EXPECT_EQ(QuoteForMessage("a\nb\"\x01"), "\"a\\nb\\\"\\x01\"");
  EXPECT_LT(QuoteForMessage(std::string(1000, 'x')).size(), 64u);
}

TEST(JsonNodeTest, NamesThePathOfAWrongType) {
  const nlohmann::json document = {{"list", {1, {{"flag", "no"}}}}};
  const JsonNode root(&document, "", "F");
  const JsonNode element = (*root.Member("list")->Elements())[1];
  EXPECT_EQ(element.BoolMember("flag").status().message(), "F: list[1].flag: must be true or false");
  EXPECT_EQ(element.BoolMember("other").status().message(), "F: list[1].other: is missing");
  EXPECT_TRUE(*element.BoolMemberOr("other", true));
}

}  // namespace
}  // namespace mambad
