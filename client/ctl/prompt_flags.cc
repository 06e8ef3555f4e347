#include "client/ctl/prompt_flags.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_split.h"
#include "client/ctl/checks.h"
#include "client/prompt.h"

namespace mambad::ctl {
namespace {

absl::StatusOr<std::string> ReadAll(const std::string& path) {
  struct Closer {
    void operator()(std::FILE* file) const {
      if (file != stdin) std::fclose(file);
    }
  };
  const std::unique_ptr<std::FILE, Closer> file(path == "-" ? stdin : std::fopen(path.c_str(), "rb"));
  if (file == nullptr) return absl::InvalidArgumentError(absl::StrCat("cannot open ", path));
  std::string text;
  char buffer[1 << 16];
  while (const size_t count = std::fread(buffer, 1, sizeof(buffer), file.get())) {
    text.append(buffer, count);
    if (text.size() > kMaxPromptBytes) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, " is larger than ", kMaxPromptBytes >> 20, " MiB"));
    }
  }
  if (std::ferror(file.get()) != 0) return absl::InvalidArgumentError(absl::StrCat("cannot read ", path));
  return text;
}

absl::StatusOr<v1::Prompt> ReadTextPrompt(const std::string& path) {
  absl::StatusOr<std::string> text = ReadAll(path);
  if (!text.ok()) return text.status();
  if (text->ends_with('\n')) text->pop_back();
  if (!IsUtf8(*text)) {
    return absl::InvalidArgumentError(
        absl::StrCat(path == "-" ? "standard input" : path, " is not valid UTF-8"));
  }
  return TextPrompt(*text);
}

}  // namespace

absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text) {
  std::string list(text);
  if (text.starts_with('@')) {
    absl::StatusOr<std::string> content = ReadAll(list.substr(1));
    if (!content.ok()) return content.status();
    list = *std::move(content);
  }
  const absl::Status wrong = absl::InvalidArgumentError("token ids are numbers between commas");
  const bool one_part = list.find(',') == std::string::npos;
  std::vector<uint32_t> ids;
  for (absl::string_view part : absl::StrSplit(list, ',')) {
    const size_t before = ids.size();
    for (absl::string_view word : absl::StrSplit(part, absl::ByAnyChar(" \n\t\r"), absl::SkipEmpty())) {
      uint32_t id = 0;
      if (!absl::SimpleAtoi(word, &id)) return wrong;
      ids.push_back(id);
    }
    if (ids.size() == before && !one_part) return wrong;
  }
  return ids;
}

void PromptFlags::AddTo(CLI::App& app, const std::string& text_flag) {
  CLI::Option* by_text = app.add_option(text_flag, text, "The text")->type_name("TEXT");
  CLI::Option* by_file =
      app.add_option("-f,--file", file, "Read the text from PATH; - is standard input")->type_name(kPathType);
  CLI::Option* by_tokens =
      app.add_option("--tokens", tokens, "Token ids instead of text: 1,2,3 or @PATH")->type_name(kIdsType);
  by_text->excludes(by_file)->excludes(by_tokens);
  by_file->excludes(by_tokens);
}

absl::StatusOr<v1::Prompt> PromptFlags::Read(bool may_be_empty) const {
  if (text.has_value()) return TextPrompt(*text);
  if (file.has_value()) return ReadTextPrompt(*file);
  if (tokens.has_value()) {
    const absl::StatusOr<std::vector<uint32_t>> ids = ParseTokenIds(*tokens);
    if (!ids.ok()) return ids.status();
    return TokenPrompt(*ids);
  }
  if (isatty(STDIN_FILENO) == 0) return ReadTextPrompt("-");
  if (may_be_empty) return v1::Prompt();
  return absl::InvalidArgumentError(
      "no text: give --file PATH, --tokens IDS, a text flag (see --help), or text on stdin");
}

}  // namespace mambad::ctl
