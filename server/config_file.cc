#include "server/config_file.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <set>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

std::string_view Trim(std::string_view text) {
  const size_t first = text.find_first_not_of(" \t\r");
  if (first == std::string_view::npos) return {};
  return text.substr(first, text.find_last_not_of(" \t\r") - first + 1);
}

bool IsKey(std::string_view key) {
  return !key.empty() && std::ranges::all_of(key, [](char c) {
    return std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '-' || c == '_';
  });
}

// Whether only a comment is left.
bool IsRest(std::string_view rest) {
  rest = Trim(rest);
  return rest.empty() || rest.front() == '#';
}

absl::StatusOr<std::string> ParseBasicString(std::string_view text) {
  std::string value;
  for (size_t i = 1; i < text.size(); ++i) {
    const char c = text[i];
    if (c == '"') {
      if (!IsRest(text.substr(i + 1))) return absl::InvalidArgumentError("text after the closing quote");
      return value;
    }
    if (c != '\\') {
      value += c;
      continue;
    }
    const char escaped = ++i < text.size() ? text[i] : '\0';
    switch (escaped) {
      case '"':
      case '\\':
        value += escaped;
        break;
      case 'n':
        value += '\n';
        break;
      case 't':
        value += '\t';
        break;
      default:
        return absl::InvalidArgumentError("an unknown escape in a string");
    }
  }
  return absl::InvalidArgumentError("a string without its closing quote");
}

absl::StatusOr<std::string> ParseLiteralString(std::string_view text) {
  const size_t close = text.find('\'', 1);
  if (close == std::string_view::npos) {
    return absl::InvalidArgumentError("a string without its closing quote");
  }
  if (!IsRest(text.substr(close + 1))) return absl::InvalidArgumentError("text after the closing quote");
  return std::string(text.substr(1, close - 1));
}

bool IsNumber(std::string_view text) {
  if (!text.empty() && (text.front() == '-' || text.front() == '+')) text.remove_prefix(1);
  return !text.empty() && std::isdigit(static_cast<unsigned char>(text.front())) != 0 &&
         std::ranges::all_of(text, [](char c) {
           return std::isdigit(static_cast<unsigned char>(c)) != 0 || c == '.' || c == '_' || c == 'e' ||
                  c == 'E' || c == '-' || c == '+';
         });
}

absl::StatusOr<std::string> ParseValue(std::string_view text) {
  if (text.empty()) return absl::InvalidArgumentError("a value is missing after '='");
  if (text.front() == '"') return ParseBasicString(text);
  if (text.front() == '\'') return ParseLiteralString(text);
  std::string value(Trim(text.substr(0, text.find('#'))));
  if (value == "true" || value == "false") return value;
  if (!IsNumber(value)) {
    return absl::InvalidArgumentError(
        "a value must be a quoted string, a number, true or false (no tables, no arrays)");
  }
  std::erase(value, '_');
  return value;
}

absl::StatusOr<ConfigEntry> ParseLine(std::string_view line) {
  const size_t equals = line.find('=');
  if (line.front() == '[' || equals == std::string_view::npos) {
    return absl::InvalidArgumentError("expected 'key = value'");
  }
  ConfigEntry entry;
  entry.key = std::string(Trim(line.substr(0, equals)));
  if (!IsKey(entry.key)) return absl::InvalidArgumentError("not a key before '='");
  std::ranges::replace(entry.key, '_', '-');
  MAMBAD_ASSIGN_OR_RETURN(entry.value, ParseValue(Trim(line.substr(equals + 1))));
  return entry;
}

}  // namespace

absl::StatusOr<std::vector<ConfigEntry>> ParseConfigFile(std::string_view text, std::string_view name) {
  std::vector<ConfigEntry> entries;
  std::set<std::string> seen;
  int number = 0;
  while (!text.empty()) {
    const size_t end = text.find('\n');
    const std::string_view line = Trim(text.substr(0, end));
    text = end == std::string_view::npos ? std::string_view() : text.substr(end + 1);
    ++number;
    if (line.empty() || line.front() == '#') continue;
    absl::StatusOr<ConfigEntry> entry = ParseLine(line);
    if (entry.ok() && !seen.insert(entry->key).second) {
      entry = absl::InvalidArgumentError(absl::StrCat("'", entry->key, "' is given twice"));
    }
    if (!entry.ok()) {
      return absl::InvalidArgumentError(
          absl::StrCat(std::string(name), ":", number, ": ", entry.status().message()));
    }
    entry->line = number;
    entries.push_back(*std::move(entry));
  }
  return entries;
}

std::string QuoteTomlString(std::string_view text) {
  std::string quoted = "\"";
  for (char c : text) {
    if (c == '"' || c == '\\') {
      quoted += '\\';
      quoted += c;
    } else if (c == '\n') {
      quoted += "\\n";
    } else if (c == '\t') {
      quoted += "\\t";
    } else {
      quoted += c;
    }
  }
  return quoted + "\"";
}

}  // namespace mambad
