// Rules about the text of our files that no compiler checks.
#ifndef MAMBAD_TESTS_REPOSITORY_TIDY_H_
#define MAMBAD_TESTS_REPOSITORY_TIDY_H_

#include <vector>

#include "tests/repository/source_tree.h"

namespace mambad::repository {

inline constexpr int kMaxLines = 600;        // a file above it holds more than one noun
inline constexpr int kLaunchCheckLines = 5;  // a kernel launch is followed by its error check this soon

// Notes to self that should have been work.
std::vector<Finding> FindUnfinishedWork(const SourceFile& file);

// Tests that are switched off, or that skip without saying why.
std::vector<Finding> FindSilencedTests(const SourceFile& file);

// Code files of more than kMaxLines lines.
std::vector<Finding> FindLongFiles(const SourceFile& file);

// Kernel launches without an error check within kLaunchCheckLines lines.
std::vector<Finding> FindUncheckedLaunches(const SourceFile& file);

// Headers whose include guard is not MAMBAD_<PATH>_H_ (_CUH_).
std::vector<Finding> FindWrongGuards(const SourceFile& file);

// Paths that exist on one machine only.
std::vector<Finding> FindMachinePaths(const SourceFile& file);

// throw, catch and try outside the files that wrap a library which throws (kMayCatch in tidy.cc).
std::vector<Finding> FindExceptions(const SourceFile& file);

// Files x.cc that include something before their own x.h, which is what proves that x.h compiles alone.
std::vector<Finding> FindOwnHeaderNotFirst(const std::vector<SourceFile>& files);

// Folders of ours with code but no README.md: the top ones and those one below engine and kernels.
std::vector<Finding> FindFoldersWithoutReadme(const std::vector<SourceFile>& files);

}  // namespace mambad::repository

#endif  // MAMBAD_TESTS_REPOSITORY_TIDY_H_
