// mambad tokenize: texts to token ids, one line of output per text.
#include <charconv>
#include <cstdio>
#include <functional>
#include <iostream>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/commands/commands.h"
#include "server/exit_code.h"
#include "server/loading.h"

namespace mambad {
namespace {

struct TokenizeOptions {
  std::string model;
  std::optional<std::string> text;
  bool stdin_lines = false;
  bool stdin_json = false;
  bool json = false;
};

constexpr size_t kFlushBytes = size_t{1} << 16;

void AppendIds(const std::vector<uint32_t>& ids, const char* separator, std::string* out) {
  char digits[16];
  for (size_t i = 0; i < ids.size(); ++i) {
    if (i > 0) out->append(separator);
    const auto end = std::to_chars(digits, digits + sizeof(digits), ids[i]).ptr;
    out->append(digits, end);
  }
}

void Flush(std::string* out) {
  std::fwrite(out->data(), 1, out->size(), stdout);
  std::fflush(stdout);
  out->clear();
}

absl::Status TokenizeOne(const Tokenizer& tokenizer, const std::string& text, bool json, std::string* out) {
  // An empty text has no ids, whatever a template would add.
  std::vector<uint32_t> ids;
  if (!text.empty()) {
    MAMBAD_ASSIGN_OR_RETURN(ids, tokenizer.Encode(text, {.add_special_tokens = true}));
  }
  if (json) out->append("{\"token_ids\":[");
  AppendIds(ids, json ? "," : " ", out);
  out->append(json ? "]}\n" : "\n");
  return absl::OkStatus();
}

// The text of a line: itself, or the JSON string that it is.
absl::StatusOr<std::string> TextOf(const std::string& line, bool json) {
  if (!json) return line;
  MAMBAD_ASSIGN_OR_RETURN(const nlohmann::json value,
                          ParseJson(line, "stdin", {.bytes_max = Tokenizer::kMaxTextBytes * 6}));
  if (!value.is_string()) return absl::InvalidArgumentError("a line is no JSON string");
  return value.get<std::string>();
}

absl::Status TokenizeStdin(const Tokenizer& tokenizer, const TokenizeOptions& options) {
  std::ios::sync_with_stdio(false);
  std::string line;
  std::string out;
  for (uint64_t number = 1; std::getline(std::cin, line); ++number) {
    absl::StatusOr<std::string> text = TextOf(line, options.stdin_json);
    const absl::Status status = text.ok() ? TokenizeOne(tokenizer, *text, options.json, &out) : text.status();
    if (!status.ok()) {
      Flush(&out);
      return absl::Status(status.code(), absl::StrCat("line ", number, ": ", status.message()));
    }
    // A caller that writes one line and waits for its answer gets it.
    if (out.size() >= kFlushBytes || std::cin.rdbuf()->in_avail() <= 0) Flush(&out);
  }
  Flush(&out);
  return absl::OkStatus();
}

absl::Status Tokenize(const TokenizeOptions& options) {
  if ((options.text.has_value() ? 1 : 0) + (options.stdin_lines ? 1 : 0) + (options.stdin_json ? 1 : 0) !=
      1) {
    return absl::InvalidArgumentError("give one of --text, --stdin-lines and --stdin-json");
  }
  MAMBAD_ASSIGN_OR_RETURN(const std::shared_ptr<const Tokenizer> tokenizer, LoadTokenizer(options.model));
  if (!options.text.has_value()) return TokenizeStdin(*tokenizer, options);
  std::string out;
  MAMBAD_RETURN_IF_ERROR(TokenizeOne(*tokenizer, *options.text, options.json, &out));
  Flush(&out);
  return absl::OkStatus();
}

}  // namespace

Command AddTokenize(CLI::App* app) {
  const auto options = std::make_shared<TokenizeOptions>();
  CLI::App* tokenize = app->add_subcommand("tokenize", "Texts to token ids");
  MarkRequired(tokenize->add_option("--model", options->model, "Folder with a tokenizer.json"));
  tokenize->add_option("--text", options->text, "One text");
  tokenize->add_flag("--stdin-lines", options->stdin_lines, "Every line of stdin is a text");
  tokenize->add_flag("--stdin-json", options->stdin_json,
                     "Every line of stdin is a JSON string: a text may hold any character");
  tokenize->add_flag("--json", options->json, "Print one JSON object per text");
  return {.app = tokenize, .run = [options] {
            const absl::Status status = Tokenize(*options);
            return status.ok() ? kExitOk : FailWith(status);
          }};
}

}  // namespace mambad
