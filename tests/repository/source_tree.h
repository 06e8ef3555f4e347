// The repository's own text files, for tests that read them: layering, tidiness, documentation.
#ifndef MAMBAD_TESTS_REPOSITORY_SOURCE_TREE_H_
#define MAMBAD_TESTS_REPOSITORY_SOURCE_TREE_H_

#include <string>
#include <string_view>
#include <vector>

namespace mambad::repository {

struct SourceFile {
  std::string path;  // relative to the root, with '/'
  std::string text;
};

// One thing that breaks a rule; line counts from 1, 0 means the whole file.
struct Finding {
  std::string path;
  int line = 0;
  std::string message;
};

// Every text file of ours below `root`, sorted by path: the top-level files and the seven folders, without
// models and test data. Empty when `root` is not the repository.
std::vector<SourceFile> ReadSourceTree(const std::string& root);

// "path:line: message" lines.
std::string Format(const std::vector<Finding>& findings);

std::vector<std::string_view> SplitLines(std::string_view text);

// "kernels/linear/linear.cu" -> "cu"; "" without a dot in the file's name.
std::string_view Extension(std::string_view path);

bool IsCpp(std::string_view path);  // h, cc, cu, cuh

// C++ with the contents of comments, strings and character literals blanked out; lines keep their numbers.
std::string BlankCommentsAndStrings(std::string_view cpp);

// True when `word` stands in `line` with no identifier character on either side.
bool ContainsWord(std::string_view line, std::string_view word);

}  // namespace mambad::repository

#endif  // MAMBAD_TESTS_REPOSITORY_SOURCE_TREE_H_
