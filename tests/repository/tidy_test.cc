// Holds every file of the tree to the rules of tidy.h, and proves for each rule that it finds a file which
// breaks it.
#include "tests/repository/tidy.h"

#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "tests/repository/source_tree.h"

namespace mambad::repository {
namespace {

using testing::IsEmpty;
using testing::SizeIs;

const std::vector<SourceFile>& Tree() {
  static const auto* files = new std::vector<SourceFile>(ReadSourceTree("."));
  return *files;
}

// All findings of one rule over the tree, as text.
std::string Sweep(std::vector<Finding> (*rule)(const SourceFile&)) {
  std::vector<Finding> all;
  for (const SourceFile& file : Tree()) {
    const std::vector<Finding> some = rule(file);
    all.insert(all.end(), some.begin(), some.end());
  }
  return Format(all);
}

TEST(TidyTest, TheTreeIsFound) { ASSERT_GT(Tree().size(), 20u); }

TEST(TidyTest, NoUnfinishedWork) {
  EXPECT_EQ(Sweep(FindUnfinishedWork), "");
  EXPECT_THAT(FindUnfinishedWork({"a.cc",
                                  "int a;  // TO"
                                  "DO: more\n"}),
              SizeIs(1));
  EXPECT_THAT(FindUnfinishedWork({"a.md",
                                  "FIX"
                                  "ME\nHA"
                                  "CK\n"}),
              SizeIs(2));
  EXPECT_THAT(FindUnfinishedWork({"a.cc",
                                  "int HA"
                                  "CKATHON;\n"}),
              IsEmpty());
}

TEST(TidyTest, NoSilencedTests) {
  EXPECT_EQ(Sweep(FindSilencedTests), "");
  EXPECT_THAT(FindSilencedTests({"a.cc",
                                 "TEST(A, DIS"
                                 "ABLED_B) {}\n"}),
              SizeIs(1));
  EXPECT_THAT(FindSilencedTests({"a.cc",
                                 "  GTEST_"
                                 "SKIP();\n"}),
              SizeIs(1));
  EXPECT_THAT(FindSilencedTests({"a.cc",
                                 "  GTEST_"
                                 "SKIP() << \"no GPU\";\n"}),
              IsEmpty());
}

TEST(TidyTest, NoLongFiles) {
  EXPECT_EQ(Sweep(FindLongFiles), "");
  EXPECT_THAT(FindLongFiles({"a.cc", std::string(kMaxLines + 1, '\n')}), SizeIs(1));
  EXPECT_THAT(FindLongFiles({"a.cc", std::string(kMaxLines, '\n')}), IsEmpty());
}

TEST(TidyTest, EveryLaunchIsChecked) {
  EXPECT_EQ(Sweep(FindUncheckedLaunches), "");
  const std::string launch =
      "  Kernel<<"
      "<1, 32>>>(x);\n";
  EXPECT_THAT(FindUncheckedLaunches({"a.cu", launch}), SizeIs(1));
  EXPECT_THAT(FindUncheckedLaunches({"a.cu", launch + "  return CheckLaunch();\n"}), IsEmpty());
  EXPECT_THAT(FindUncheckedLaunches({"a.cu", launch + "\n\n\n\n\n\n  return CheckLaunch();\n"}), SizeIs(1));
  EXPECT_THAT(FindUncheckedLaunches({"a.cu", launch + "  // CheckLaunch\n"}), SizeIs(1));
}

TEST(TidyTest, IncludeGuardsMatchThePath) {
  EXPECT_EQ(Sweep(FindWrongGuards), "");
  EXPECT_THAT(FindWrongGuards({"engine/a_b.h",
                               "#ifndef MAMBAD_ENGINE_A_B_H_\n#define MAMBAD_ENGINE_A_B_H_\n"
                               "#endif  // MAMBAD_ENGINE_A_B_H_\n"}),
              IsEmpty());
  EXPECT_THAT(
      FindWrongGuards({"engine/a.h", "#ifndef MAMBAD_A_H_\n#define MAMBAD_A_H_\n#endif  // MAMBAD_A_H_\n"}),
      SizeIs(1));
  EXPECT_THAT(FindWrongGuards({"engine/a.h", "#pragma once\n"}), SizeIs(1));
}

TEST(TidyTest, NoPathsOfOneMachine) {
  EXPECT_EQ(Sweep(FindMachinePaths), "");
  EXPECT_THAT(FindMachinePaths({"a.md",
                                "see /ho"
                                "me/me/model\n"}),
              SizeIs(1));
  EXPECT_THAT(FindMachinePaths({"a.md",
                                "see tests/wo"
                                "rk/model\n"}),
              IsEmpty());
}

TEST(TidyTest, NoExceptions) {
  EXPECT_EQ(Sweep(FindExceptions), "");
  EXPECT_THAT(FindExceptions({"a.cc", "throw 1;\n"}), SizeIs(1));
  EXPECT_THAT(FindExceptions({"a.cc", "try { F(); } catch (...) {}\n"}), SizeIs(2));
  EXPECT_THAT(FindExceptions({"a.cc", "// throw\nint throws = \"catch\";\n"}), IsEmpty());
}

TEST(TidyTest, OwnHeaderComesFirst) {
  EXPECT_EQ(Format(FindOwnHeaderNotFirst(Tree())), "");
  const SourceFile header = {"engine/a.h", ""};
  const std::string own =
      "#inc"
      "lude \"engine/a.h\"\n";
  const std::string other =
      "#inc"
      "lude <string>\n";
  EXPECT_THAT(FindOwnHeaderNotFirst({header, {"engine/a.cc", "// a\n" + own + other}}), IsEmpty());
  EXPECT_THAT(FindOwnHeaderNotFirst({header, {"engine/a.cc", other + own}}), SizeIs(1));
  EXPECT_THAT(FindOwnHeaderNotFirst({{"engine/b.cc", other}}), IsEmpty());
}

TEST(TidyTest, EveryFolderSaysWhatItHolds) {
  EXPECT_EQ(Format(FindFoldersWithoutReadme(Tree())), "");
  EXPECT_THAT(FindFoldersWithoutReadme({{"engine/text/a.cc", ""}, {"engine/README.md", ""}}), SizeIs(1));
  EXPECT_THAT(FindFoldersWithoutReadme({{"client/a.cc", ""}}), SizeIs(1));
}

TEST(TidyTest, BlanksCommentsAndStringsAlone) {
  EXPECT_EQ(BlankCommentsAndStrings("a // b\nc"), "a     \nc");
  EXPECT_EQ(BlankCommentsAndStrings("a /* b\nc */ d"), "a     \n     d");
  EXPECT_EQ(BlankCommentsAndStrings("f(\"a\\\"b\", 'c', 1'000)"), "f(\"    \", ' ', 1'000)");
  EXPECT_EQ(BlankCommentsAndStrings("R\"x(a)\" b)x\" c"), "R\"x      )x\" c");
}

}  // namespace
}  // namespace mambad::repository
