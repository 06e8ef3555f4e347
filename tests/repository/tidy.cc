#include "tests/repository/tidy.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <functional>
#include <set>
#include <string>
#include <string_view>

namespace mambad::repository {
namespace {

// Words are put together from halves so that this file does not contain them.
constexpr std::array<std::string_view, 4> kNotes = {
    "TO"
    "DO",
    "FIX"
    "ME",
    "HA"
    "CK",
    "XX"
    "X"};
constexpr std::string_view kDisabled =
    "DIS"
    "ABLED_";
constexpr std::string_view kSkip =
    "GTEST_"
    "SKIP()";
constexpr std::string_view kLaunch =
    "<<"
    "<";
constexpr std::array<std::string_view, 5> kMachinePaths = {
    "/ho"
    "me/",
    "/ro"
    "ot/",
    "/wo"
    "rk/",
    "/Us"
    "ers/",
    "/tmp/"
    "venv"};

// Files that may catch: each wraps a library that reports errors by throwing and has no form that does not.
constexpr std::array<std::string_view, 2> kMayCatch = {
    "client/ctl/command_line.cc",  // CLI11
    "server/command_line.cc",      // CLI11
};

constexpr std::array<std::string_view, 4> kLaunchChecks = {"cudaGetLastError", "cudaPeekAtLastError",
                                                           "CheckLaunch", "LAUNCH_CHECK"};

// Calls found(line, number) for every line, numbered from 1.
void ForEachLine(std::string_view text, const std::function<void(std::string_view, int)>& found) {
  int number = 0;
  for (std::string_view line : SplitLines(text)) found(line, ++number);
}

bool IsCode(std::string_view path) {
  const std::string_view extension = Extension(path);
  return IsCpp(path) || extension == "sh" || extension == "proto" || extension == "py";
}

std::string GuardOf(std::string_view path) {
  std::string guard = "MAMBAD_";
  for (char c : path) {
    const auto u = static_cast<unsigned char>(c);
    guard += std::isalnum(u) != 0 ? static_cast<char>(std::toupper(u)) : '_';
  }
  return guard + "_";
}

}  // namespace

std::vector<Finding> FindUnfinishedWork(const SourceFile& file) {
  std::vector<Finding> findings;
  ForEachLine(file.text, [&](std::string_view line, int number) {
    for (std::string_view note : kNotes) {
      if (ContainsWord(line, note))
        findings.push_back({file.path, number, "unfinished: " + std::string(note)});
    }
  });
  return findings;
}

std::vector<Finding> FindSilencedTests(const SourceFile& file) {
  std::vector<Finding> findings;
  if (!IsCpp(file.path)) return findings;
  ForEachLine(file.text, [&](std::string_view line, int number) {
    if (line.find(kDisabled) != std::string_view::npos) {
      findings.push_back({file.path, number, "a test is switched off"});
    }
    const size_t skip = line.find(kSkip);
    if (skip != std::string_view::npos &&
        line.substr(skip + kSkip.size()).find("<<") == std::string_view::npos) {
      findings.push_back({file.path, number, "a skipped test says why on the same line"});
    }
  });
  return findings;
}

std::vector<Finding> FindLongFiles(const SourceFile& file) {
  const auto lines = static_cast<int>(std::ranges::count(file.text, '\n'));
  if (!IsCode(file.path) || lines <= kMaxLines) return {};
  return {{file.path, lines, "longer than " + std::to_string(kMaxLines) + " lines"}};
}

std::vector<Finding> FindUncheckedLaunches(const SourceFile& file) {
  std::vector<Finding> findings;
  if (Extension(file.path) != "cu" && Extension(file.path) != "cuh") return findings;
  const std::string code = BlankCommentsAndStrings(file.text);
  const std::vector<std::string_view> lines = SplitLines(code);
  for (size_t i = 0; i < lines.size(); ++i) {
    if (lines[i].find(kLaunch) == std::string_view::npos) continue;
    bool checked = false;
    for (size_t j = i; j < lines.size() && j <= i + kLaunchCheckLines; ++j) {
      checked |= std::ranges::any_of(kLaunchChecks, [&](std::string_view check) {
        return lines[j].find(check) != std::string_view::npos;
      });
    }
    if (!checked)
      findings.push_back({file.path, static_cast<int>(i + 1), "a kernel launch without an error check"});
  }
  return findings;
}

std::vector<Finding> FindWrongGuards(const SourceFile& file) {
  if (Extension(file.path) != "h" && Extension(file.path) != "cuh") return {};
  const std::string guard = GuardOf(file.path);
  const bool opens = file.text.find("#ifndef " + guard + "\n#define " + guard + "\n") != std::string::npos;
  const bool closes = file.text.ends_with("#endif  // " + guard + "\n");
  if (opens && closes) return {};
  return {{file.path, 0, "the include guard is not " + guard}};
}

std::vector<Finding> FindMachinePaths(const SourceFile& file) {
  std::vector<Finding> findings;
  ForEachLine(file.text, [&](std::string_view line, int number) {
    for (std::string_view path : kMachinePaths) {
      const size_t at = line.find(path);
      // "tests/work/" is a path of ours; an absolute one starts after no name.
      if (at == std::string_view::npos ||
          (at > 0 && std::isalnum(static_cast<unsigned char>(line[at - 1])) != 0))
        continue;
      findings.push_back({file.path, number, "a path of one machine: " + std::string(path)});
    }
  });
  return findings;
}

std::vector<Finding> FindExceptions(const SourceFile& file) {
  std::vector<Finding> findings;
  if (!IsCpp(file.path) || std::ranges::find(kMayCatch, file.path) != kMayCatch.end()) return findings;
  const std::string code = BlankCommentsAndStrings(file.text);
  ForEachLine(code, [&](std::string_view line, int number) {
    for (std::string_view word : {"throw", "catch", "try"}) {
      if (ContainsWord(line, word))
        findings.push_back({file.path, number, "exceptions: " + std::string(word)});
    }
  });
  return findings;
}

std::vector<Finding> FindOwnHeaderNotFirst(const std::vector<SourceFile>& files) {
  std::set<std::string_view> paths;
  for (const SourceFile& file : files) paths.insert(file.path);
  std::vector<Finding> findings;
  for (const SourceFile& file : files) {
    if (!file.path.ends_with(".cc")) continue;
    const std::string header = file.path.substr(0, file.path.size() - 2) + "h";
    if (!paths.contains(header)) continue;
    int number = 0;
    for (std::string_view line : SplitLines(file.text)) {
      ++number;
      if (!line.starts_with("#include")) continue;
      if (line != "#include \"" + header + "\"")
        findings.push_back({file.path, number, "include its own header first"});
      break;
    }
  }
  return findings;
}

std::vector<Finding> FindFoldersWithoutReadme(const std::vector<SourceFile>& files) {
  std::set<std::string> folders;
  std::set<std::string> described;
  for (const SourceFile& file : files) {
    const size_t top = file.path.find('/');
    if (top == std::string::npos) continue;
    folders.insert(file.path.substr(0, top));
    const size_t below = file.path.find('/', top + 1);
    const bool deep = file.path.starts_with("engine/") || file.path.starts_with("kernels/");
    if (deep && below != std::string::npos && IsCpp(file.path)) folders.insert(file.path.substr(0, below));
    if (file.path.ends_with("/README.md")) described.insert(file.path.substr(0, file.path.rfind('/')));
  }
  std::vector<Finding> findings;
  for (const std::string& folder : folders) {
    if (!described.contains(folder)) findings.push_back({folder, 0, "has no README.md"});
  }
  return findings;
}

}  // namespace mambad::repository
