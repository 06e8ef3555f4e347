// The main of every test: runs at the repository's root, and fails a run in which no test ran.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>

#include "gtest/gtest.h"

namespace {

// Tests name files relative to the root of the sources: the current directory, else $MAMBAD_SOURCE_ROOT, else
// the root that this was built from.
bool EnterSourceRoot() {
  if (access(MAMBAD_TEST_DATA, R_OK) == 0) return true;
  const char* given = std::getenv("MAMBAD_SOURCE_ROOT");
  return chdir(given != nullptr ? given : MAMBAD_SOURCE_ROOT) == 0 && access(MAMBAD_TEST_DATA, R_OK) == 0;
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
  const int result = RUN_ALL_TESTS();
  if (testing::UnitTest::GetInstance()->test_to_run_count() == 0) {
    std::fprintf(stderr, "no test ran\n");
    return 1;
  }
  return result;
}
