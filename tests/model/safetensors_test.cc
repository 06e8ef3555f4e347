#include "engine/model/safetensors.h"

#include <cstring>
#include <random>
#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/model/safetensors_file.h"
#include "tests/model/test_models.h"

namespace mambad {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

constexpr char kGood[] =
    R"({"__metadata__":{"format":"pt"},"a":{"dtype":"F32","shape":[2,3],"data_offsets":[0,24]},)"
    R"("b":{"dtype":"BF16","shape":[4],"data_offsets":[24,32]}})";
constexpr size_t kGoodData = 32;

absl::StatusOr<std::vector<TensorEntry>> Parse(std::string_view bytes) {
  return ParseSafetensorsHeader(std::as_bytes(std::span(bytes.data(), bytes.size())), bytes.size(),
                                "x.safetensors");
}

TEST(SafetensorsTest, ReadsNamesTypesShapesAndPlaces) {
  const auto entries = Parse(SafetensorsBytes(kGood, std::string(kGoodData, '\0')));
  ASSERT_TRUE(entries.ok()) << entries.status();
  ASSERT_EQ(entries->size(), 2u);
  EXPECT_EQ((*entries)[0].name, "a");
  EXPECT_EQ((*entries)[1].dtype, "BF16");
  EXPECT_THAT((*entries)[0].shape, ElementsAre(2, 3));
  EXPECT_EQ((*entries)[1].begin, 24u);
  EXPECT_EQ((*entries)[1].bytes, 8u);
}

TEST(SafetensorsTest, FindsTensorsInAMappedFile) {
  const auto file = SafetensorsFile::Open(TestDataPath("golden/tiny-mamba.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status();
  const TensorEntry* ids = (*file)->Find("input_ids");
  ASSERT_NE(ids, nullptr);
  EXPECT_THAT(ids->shape, ElementsAre(2, 33));
  EXPECT_EQ((*file)->Bytes(*ids).size(), 2u * 33 * 4);
  EXPECT_EQ((*file)->Find("nothing"), nullptr);
}

struct BadHeader {
  std::string from;
  std::string to;
  std::string expected;  // in the error
};

TEST(SafetensorsTest, RefusesEveryDamageNamingIt) {
  const BadHeader bad[] = {
      {"\"F32\"", "\"F33\"", "tensor a: unknown dtype"},
      {"\"F32\"", "32", "tensor a: dtype"},
      {"[2,3]", "[2,4]", "tensor a: expected 32 bytes for F32 (2, 4), found 24"},
      {"[2,3]", "[-2,3]", "tensor a: shape"},
      {"[2,3]", "[2.5,3]", "tensor a: shape"},
      {"[2,3]", "[1,1,1,1,1,1,1,1,6]", "tensor a: shape"},
      {"[2,3]", "[4294967296,4294967296,4294967296]", "tensor a: its shape overflows"},
      {"[2,3]", "[9223372036854775808]", "tensor a: its shape overflows"},
      {"[2,3]", "{}", "tensor a: shape"},
      {"[0,24]", "[24,0]", "tensor a: data_offsets"},
      {"[0,24]", "[0,24,32]", "tensor a: data_offsets"},
      {"[0,24]", "[0]", "tensor a: data_offsets"},
      {"[0,24]", "[-1,23]", "tensor a: data_offsets"},
      {"[0,24]", "[8,32]", "(hole)"},
      {"[24,32]", "[16,24]", "(overlap)"},
      {"[24,32]", "[24,40]", "tensor b: ends at byte 40"},
      {"[24,32]", "[18446744073709551608,18446744073709551615]", "tensor b: ends at byte"},
      {"\"b\"", "\"a\"", "names \"a\" twice"},
      {",\"b\":{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}", "", "cover 24 bytes"},
      {"{\"dtype\":\"BF16\",\"shape\":[4],\"data_offsets\":[24,32]}", "7", "tensor b: its header entry"},
      {"}}", "}", "not valid JSON"},
      {"{\"__meta", "[{\"__meta", "not valid JSON"},
  };
  for (const BadHeader& header : bad) {
    std::string text = kGood;
    const size_t at = text.find(header.from);
    ASSERT_NE(at, std::string::npos) << header.from;
    text.replace(at, header.from.size(), header.to);
    const absl::Status status = Parse(SafetensorsBytes(text, std::string(kGoodData, '\0'))).status();
    EXPECT_EQ(status.code(), absl::StatusCode::kInvalidArgument) << header.to;
    EXPECT_THAT(std::string(status.message()), HasSubstr(header.expected));
    EXPECT_THAT(std::string(status.message()), HasSubstr("x.safetensors"));
  }
}

TEST(SafetensorsTest, RefusesEveryTruncation) {
  const std::string whole = SafetensorsBytes(kGood, std::string(kGoodData, '\0'));
  for (size_t size = 0; size < whole.size(); ++size)
    EXPECT_FALSE(Parse(whole.substr(0, size)).ok()) << size << " bytes";
  EXPECT_FALSE(Parse(whole + "x").ok());
}

TEST(SafetensorsTest, RefusesAHeaderLengthThatNoFileHas) {
  std::string bytes = SafetensorsBytes(kGood, std::string(kGoodData, '\0'));
  for (const uint64_t length : {uint64_t{1} << 25, uint64_t{1} << 63, ~uint64_t{0}, uint64_t{4096}}) {
    std::memcpy(bytes.data(), &length, sizeof(length));
    EXPECT_FALSE(Parse(bytes).ok()) << length;
  }
}

TEST(SafetensorsTest, NamesInErrorsStayOnOneShortLine) {
  const std::string header = "{\"" + std::string(1000, 'n') +
                             "\\n\\u0007\":{\"dtype\":\"F99\",\"shape\":[1],\"data_offsets\":[0,4]}}";
  const absl::Status status = Parse(SafetensorsBytes(header, "1234")).status();
  EXPECT_LT(status.message().size(), 300u);
  EXPECT_EQ(status.message().find('\n'), absl::string_view::npos);
}

// What the fuzz target looks for, in every run: a mutated file is refused or gives places inside it.
TEST(SafetensorsTest, MutatedHeadersNeverLeadOutOfTheFile) {
  const std::string whole = SafetensorsBytes(kGood, std::string(kGoodData, '\0'));
  std::mt19937 random(7);
  int accepted = 0;
  for (int round = 0; round < 20'000; ++round) {
    std::string bytes = whole;
    for (uint32_t n = 1 + random() % 4; n > 0; --n) {
      const size_t at = random() % bytes.size();
      switch (random() % 3) {
        case 0:
          bytes[at] = static_cast<char>(random());
          break;
        case 1:
          bytes.erase(at, 1 + random() % 8);
          break;
        default:
          bytes.insert(at, bytes.substr(random() % bytes.size(), random() % 16));
      }
      if (bytes.empty()) break;
    }
    const auto entries = Parse(bytes);
    if (!entries.ok()) continue;
    ++accepted;
    for (const TensorEntry& entry : *entries) ASSERT_LE(entry.begin + entry.bytes, bytes.size());
  }
  EXPECT_GT(accepted, 0);
}

}  // namespace
}  // namespace mambad
