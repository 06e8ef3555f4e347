#include "kernels/device/cpu_path.h"

#include <string>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/support/cpu_device.h"

namespace mambad::kernels {
namespace {

using ::testing::HasSubstr;

TEST(CpuPathTest, TakesTheBestSupportedPathByDefault) {
  const ScopedEnvironment unset("MAMBAD_CPU", nullptr);
  const CpuPath best = SelectCpuPath().value();
  EXPECT_TRUE(Supported(best));
  if (Supported(CpuPath::kAvx512)) {
    EXPECT_EQ(best, CpuPath::kAvx512);
  } else if (Supported(CpuPath::kAvx2)) {
    EXPECT_EQ(best, CpuPath::kAvx2);
  } else {
    EXPECT_EQ(best, CpuPath::kPortable);
  }
}

TEST(CpuPathTest, ObeysTheEnvironmentOrSaysWhyNot) {
  for (CpuPath path : {CpuPath::kPortable, CpuPath::kAvx2, CpuPath::kAvx512}) {
    const ScopedEnvironment force("MAMBAD_CPU", std::string(Name(path)).c_str());
    const auto selected = SelectCpuPath();
    if (Supported(path)) {
      ASSERT_TRUE(selected.ok());
      EXPECT_EQ(*selected, path);
    } else {
      EXPECT_EQ(selected.status().code(), absl::StatusCode::kFailedPrecondition);
      EXPECT_THAT(std::string(selected.status().message()), HasSubstr("MAMBAD_CPU"));
    }
  }
}

TEST(CpuPathTest, RefusesAnUnknownWord) {
  for (const char* word : {"sse9", "AVX2", "avx2 "}) {
    const ScopedEnvironment force("MAMBAD_CPU", word);
    const auto selected = SelectCpuPath();
    EXPECT_EQ(selected.status().code(), absl::StatusCode::kInvalidArgument);
    EXPECT_THAT(std::string(selected.status().message()), HasSubstr("MAMBAD_CPU"));
  }
}

}  // namespace
}  // namespace mambad::kernels
