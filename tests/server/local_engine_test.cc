#include "server/commands/local_engine.h"

#include <fstream>

#include "gmock/gmock.h"
#include "gtest/gtest.h"

namespace mambad {
namespace {

using ::testing::ElementsAre;

TEST(LocalEngineTest, ParsesTokenIdsOfAFlagAndOfAFile) {
  EXPECT_THAT(*ParseTokens("1,2 , 3 4294967295"), ElementsAre(1, 2, 3, 4294967295U));
  EXPECT_THAT(*ParseTokens(""), ElementsAre());
  const std::string path = ::testing::TempDir() + "local_engine_test_tokens";
  std::ofstream(path) << "5,6 7\n8,\n9\n";
  EXPECT_THAT(*ParseTokens("@" + path), ElementsAre(5, 6, 7, 8, 9));
}

TEST(LocalEngineTest, RefusesAMissingTokenId) {
  for (const char* wrong : {"1,,2", "1, ,2", ",1", "1,", "1, ", ",", "1 2,"})
    EXPECT_EQ(ParseTokens(wrong).status().code(), absl::StatusCode::kInvalidArgument) << wrong;
}

}  // namespace
}  // namespace mambad
