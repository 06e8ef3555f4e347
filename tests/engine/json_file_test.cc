#include "engine/json_file.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

using nlohmann::json;
using testing::HasSubstr;

std::string MessageOf(const absl::Status& status) { return std::string(status.message()); }

JsonObject ObjectOf(const json& value) { return *JsonObject::Of(value, "x.json"); }

TEST(JsonFileTest, ParseSaysWhereTheTextStopsBeingJson) {
  EXPECT_THAT(MessageOf(ParseJson("{\"a\": 1,, }", "x.json", {}).status()),
              HasSubstr("x.json: is not valid JSON (at byte 9"));
}

TEST(JsonFileTest, ParseHoldsBytesAndDepth) {
  EXPECT_TRUE(ParseJson("[[1]]", "x.json", {.bytes_max = 5, .depth_max = 2}).ok());
  EXPECT_FALSE(ParseJson("[[1]]", "x.json", {.bytes_max = 4}).ok());
  EXPECT_FALSE(ParseJson("[[1]]", "x.json", {.depth_max = 1}).ok());
  // Brackets inside strings are none, an escaped quote ends no string.
  EXPECT_TRUE(ParseJson("[\"[[[\\\"[[\"]", "x.json", {.depth_max = 1}).ok());
}

TEST(JsonFileTest, ParseRefusesAKeyNamedTwiceWhenAsked) {
  constexpr char kTwice[] = R"({"a": {"b": 1}, "c": {"b": 2}, "a": 3})";
  EXPECT_EQ((*ParseJson(kTwice, "x.json", {}))["a"], 3);
  EXPECT_THAT(MessageOf(ParseJson(kTwice, "x.json", {.unique_keys = true}).status()),
              HasSubstr("\"a\" twice"));
}

TEST(JsonFileTest, IntegerChecksTypeAndRange) {
  const json value = {{"two", 2},    {"real", 2.0},  {"half", 2.5},
                      {"text", "2"}, {"big", ~0ull}, {"none", nullptr}};
  const JsonObject object = ObjectOf(value);
  EXPECT_EQ(*object.Integer("two", 0, 2), 2);
  EXPECT_EQ(*object.Integer("real", 0, 9), 2);
  EXPECT_EQ(*object.Integer("none", 0, 9, 7), 7);
  EXPECT_EQ(*object.Integer("absent", 0, 9, 7), 7);
  EXPECT_THAT(MessageOf(object.Integer("two", 3, 9).status()),
              HasSubstr("x.json: two must be an integer in [3, 9], found 2"));
  EXPECT_FALSE(object.Integer("half", 0, 9).ok());
  EXPECT_FALSE(object.Integer("text", 0, 9).ok());
  EXPECT_FALSE(object.Integer("big", INT64_MIN, INT64_MAX).ok());
  EXPECT_THAT(MessageOf(object.Integer("absent", 0, 9).status()), HasSubstr("absent is missing"));
}

TEST(JsonFileTest, OtherTypesAreCheckedToo) {
  const json value = {{"flag", true}, {"number", 0.5}, {"text", "t"}, {"in", {{"deep", 3}}}};
  const JsonObject object = ObjectOf(value);
  EXPECT_TRUE(*object.Boolean("flag"));
  EXPECT_EQ(*object.Real("number", 0, 1), 0.5);
  EXPECT_EQ(*object.String("text"), "t");
  EXPECT_EQ(*object.Integer("in.deep", 0, 9), 3);
  EXPECT_FALSE(object.Boolean("number").ok());
  EXPECT_FALSE(object.Real("number", 0.6, 1).ok());
  EXPECT_FALSE(object.String("flag").ok());
  EXPECT_FALSE(object.Has("text.deep"));
  EXPECT_FALSE(JsonObject::Of(json::array(), "x.json").ok());
}

TEST(JsonFileTest, ReadFileTakesRegularFilesOfBoundedSize) {
  std::string pattern = testing::TempDir() + "/mambad-json-XXXXXX";
  const std::string folder = ::mkdtemp(pattern.data());
  std::ofstream(folder + "/a") << "12345";
  EXPECT_EQ(*ReadFile(folder + "/a", 5), "12345");
  EXPECT_FALSE(ReadFile(folder + "/a", 4).ok());
  EXPECT_TRUE(absl::IsNotFound(ReadFile(folder + "/b", 5).status()));
  EXPECT_FALSE(ReadFile(folder, 5).ok());
  ASSERT_EQ(::mkfifo((folder + "/fifo").c_str(), 0600), 0);
  EXPECT_THAT(MessageOf(ReadFile(folder + "/fifo", 5).status()), HasSubstr("regular file"));
  ::unlink((folder + "/a").c_str());
  ::unlink((folder + "/fifo").c_str());
  ::rmdir(folder.c_str());
}

TEST(JsonFileTest, PrintableIsShortAndOneLine) {
  EXPECT_EQ(Printable("a\nb"), "a\\nb");
  EXPECT_LT(Printable(std::string(1000, 'x')).size(), 100u);
}

}  // namespace
}  // namespace mambad
