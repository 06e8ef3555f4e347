// The main of every test: runs at the repository's root, and fails a run in which no test ran. A run for a
// GPU that is not there is skipped, or fails with MAMBAD_REQUIRE_GPU.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "gtest/gtest.h"
#include "kernels/device/gpu_probe.h"
#include "tests/support/test_device.h"

namespace {

constexpr int kSkipped = 77;  // CTest knows it (mambad_test)

// Tests name files relative to the root of the sources: the current directory, else $MAMBAD_SOURCE_ROOT, else
// the root that this was built from.
bool EnterSourceRoot() {
  if (access(MAMBAD_TEST_DATA, R_OK) == 0) return true;
  const char* given = std::getenv("MAMBAD_SOURCE_ROOT");
  return chdir(given != nullptr ? given : MAMBAD_SOURCE_ROOT) == 0 && access(MAMBAD_TEST_DATA, R_OK) == 0;
}

// Why the GPU that MAMBAD_TEST_DEVICE=cuda asks for cannot be had; empty: it can, or none was asked for.
std::string MissingGpu() {
  if (!mambad::TestsRunOnGpu()) return "";
  const auto gpu = mambad::kernels::ProbeGpu(0);
  return gpu.ok() ? "" : std::string(gpu.status().message());
}

}  // namespace

int main(int argc, char** argv) {
  testing::InitGoogleTest(&argc, argv);
  if (GTEST_FLAG_GET(list_tests)) return RUN_ALL_TESTS();
  if (!EnterSourceRoot()) {
    std::fprintf(stderr, "%s not found: run from the repository's root or set MAMBAD_SOURCE_ROOT\n",
                 MAMBAD_TEST_DATA);
    return 1;
  }
  if (const std::string missing = MissingGpu(); !missing.empty()) {
    std::fprintf(stderr, "skipped: %s\n", missing.c_str());
    return std::getenv("MAMBAD_REQUIRE_GPU") != nullptr ? 1 : kSkipped;
  }
  const int result = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    std::fprintf(stderr, "no test ran\n");
    return 1;
  }
  return result;
}
