#include "tests/repository/source_tree.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <system_error>

namespace mambad::repository {
namespace {

namespace fs = std::filesystem;

constexpr std::array<std::string_view, 7> kFolders = {"proto",  "server", "engine", "kernels",
                                                      "client", "deploy", "tests"};
constexpr std::array<std::string_view, 2> kDataFolders = {"deploy/models/", "tests/data/"};

bool IsIdentifier(char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_'; }

void Add(const fs::path& root, const fs::path& file, std::vector<SourceFile>& files) {
  std::string path = file.lexically_relative(root).generic_string();
  for (std::string_view folder : kDataFolders) {
    if (path.starts_with(folder)) return;
  }
  if (path.find("__pycache__") != std::string::npos) return;
  std::ifstream in(file, std::ios::binary);
  std::string text((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  if (text.find('\0') != std::string::npos) return;  // not a text
  files.push_back({std::move(path), std::move(text)});
}

// Skips a literal that starts at `i` with `quote`, blanking its inside; returns the index after it.
size_t BlankQuoted(std::string& text, size_t i, char quote) {
  for (++i; i < text.size() && text[i] != quote && text[i] != '\n'; ++i) {
    if (text[i] == '\\' && i + 1 < text.size() && text[i + 1] != '\n') text[i++] = ' ';
    text[i] = ' ';
  }
  return i < text.size() ? i + 1 : i;
}

size_t BlankUntil(std::string& text, size_t begin, size_t end) {
  end = std::min(end, text.size());
  for (size_t i = begin; i < end; ++i) {
    if (text[i] != '\n') text[i] = ' ';
  }
  return end;
}

// R"delimiter( ... )delimiter" whose 'R' is at `i`.
size_t BlankRaw(std::string& text, size_t i) {
  const size_t open = text.find('(', i);
  if (open == std::string::npos) return text.size();
  std::string close = ")";
  close.append(text, i + 2, open - i - 2).append("\"");
  const size_t end = text.find(close, open);
  return end == std::string::npos ? BlankUntil(text, open, text.size())
                                  : BlankUntil(text, open, end) + close.size();
}

}  // namespace

std::vector<SourceFile> ReadSourceTree(const std::string& root) {
  std::vector<SourceFile> files;
  std::error_code error;
  const fs::path base(root);
  for (const fs::directory_entry& entry : fs::directory_iterator(base, error)) {
    const bool git = entry.path().filename() == ".git";  // a file in a worktree
    if (entry.is_regular_file(error) && !git) Add(base, entry.path(), files);
  }
  for (std::string_view folder : kFolders) {
    const fs::path start = base / std::string(folder);
    for (const fs::directory_entry& entry : fs::recursive_directory_iterator(start, error)) {
      if (entry.is_regular_file(error)) Add(base, entry.path(), files);
    }
  }
  std::ranges::sort(files, {}, &SourceFile::path);
  return files;
}

std::string Format(const std::vector<Finding>& findings) {
  std::string out;
  for (const Finding& finding : findings) {
    out.append(finding.path).append(":").append(std::to_string(finding.line)).append(": ");
    out.append(finding.message).append("\n");
  }
  return out;
}

std::vector<std::string_view> SplitLines(std::string_view text) {
  std::vector<std::string_view> lines;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    lines.push_back(text.substr(0, end));
    text.remove_prefix(end == std::string_view::npos ? text.size() : end + 1);
  }
  return lines;
}

std::string_view Extension(std::string_view path) {
  const size_t slash = path.rfind('/');
  const size_t dot = path.rfind('.');
  if (dot == std::string_view::npos || (slash != std::string_view::npos && dot < slash)) return {};
  return path.substr(dot + 1);
}

bool IsCpp(std::string_view path) {
  const std::string_view extension = Extension(path);
  return extension == "h" || extension == "cc" || extension == "cu" || extension == "cuh";
}

std::string BlankCommentsAndStrings(std::string_view cpp) {
  std::string text(cpp);
  size_t i = 0;
  while (i < text.size()) {
    const char c = text[i];
    const char next = i + 1 < text.size() ? text[i + 1] : '\0';
    const bool after_identifier = i > 0 && IsIdentifier(text[i - 1]);
    if (c == '/' && next == '/') {
      i = BlankUntil(text, i, text.find('\n', i));
    } else if (c == '/' && next == '*') {
      const size_t end = text.find("*/", i + 2);
      i = BlankUntil(text, i, end == std::string::npos ? text.size() : end + 2);
    } else if (c == 'R' && next == '"' && !after_identifier) {
      i = BlankRaw(text, i);
    } else if (c == '"' || (c == '\'' && !after_identifier)) {  // 1'000 is a number
      i = BlankQuoted(text, i, c);
    } else {
      ++i;
    }
  }
  return text;
}

bool ContainsWord(std::string_view line, std::string_view word) {
  for (size_t at = line.find(word); at != std::string_view::npos; at = line.find(word, at + 1)) {
    const size_t end = at + word.size();
    if ((at == 0 || !IsIdentifier(line[at - 1])) && (end == line.size() || !IsIdentifier(line[end])))
      return true;
  }
  return false;
}

}  // namespace mambad::repository
