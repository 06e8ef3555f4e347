#include "engine/json_file.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cmath>
#include <cstring>
#include <set>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using nlohmann::json;

absl::Status Bad(std::string_view name, std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(name), ": ", std::string(problem)));
}

// Depth of the deepest bracket; strings are skipped. The grammar itself is the parser's business.
int DepthOf(std::string_view text) {
  int depth = 0;
  int deepest = 0;
  bool in_string = false;
  for (size_t i = 0; i < text.size(); ++i) {
    const char c = text[i];
    if (in_string) {
      if (c == '\\') ++i;
      if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '[' || c == '{') {
      deepest = std::max(deepest, ++depth);
    } else if (c == ']' || c == '}') {
      --depth;
    }
  }
  return deepest;
}

// Builds nothing: walks the text and remembers where it stops being JSON, or the first key named twice.
class JsonCheck : public json::json_sax_t {
 public:
  explicit JsonCheck(bool unique_keys) : unique_keys_(unique_keys) {}

  bool null() override { return true; }
  bool boolean(bool) override { return true; }
  bool number_integer(json::number_integer_t) override { return true; }
  bool number_unsigned(json::number_unsigned_t) override { return true; }
  bool number_float(json::number_float_t, const json::string_t&) override { return true; }
  bool string(json::string_t&) override { return true; }
  bool binary(json::binary_t&) override { return true; }
  bool start_object(std::size_t) override {
    if (unique_keys_) keys_.emplace_back();
    return true;
  }
  bool end_object() override {
    if (unique_keys_) keys_.pop_back();
    return true;
  }
  bool start_array(std::size_t) override { return true; }
  bool end_array() override { return true; }
  bool key(json::string_t& key) override {
    if (!unique_keys_ || keys_.back().insert(key).second) return true;
    problem_ = absl::StrCat("names \"", Printable(key), "\" twice");
    return false;
  }
  bool parse_error(std::size_t position, const std::string&, const json::exception&) override {
    problem_ = absl::StrCat("is not valid JSON (at byte ", position, ")");
    return false;
  }

  const std::string& problem() const { return problem_; }

 private:
  const bool unique_keys_;
  std::vector<std::set<std::string>> keys_;
  std::string problem_;
};

std::string Shown(const json& value) {
  if (value.is_number() || value.is_boolean()) return value.dump();
  return value.type_name();
}

}  // namespace

std::string Printable(std::string_view text) {
  constexpr size_t kMax = 80;
  std::string escaped = absl::Utf8SafeCHexEscape(absl::string_view(text.data(), std::min(text.size(), kMax)));
  if (text.size() > kMax) escaped += "...";
  return escaped;
}

absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max) {
  // O_NONBLOCK: a FIFO in the place of a file must not hang the open.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    const int error = errno;
    if (error == ENOENT) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
    return Bad(path, absl::StrCat("cannot be opened: ", std::strerror(error)));
  }
  struct stat info;
  std::string content;
  absl::Status status;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = Bad(path, "is not a regular file");
  } else if (static_cast<uint64_t>(info.st_size) > bytes_max) {
    status = Bad(path, absl::StrCat("has ", info.st_size, " bytes, at most ", bytes_max, " are read"));
  } else {
    content.resize(static_cast<size_t>(info.st_size));
    size_t done = 0;
    while (done < content.size()) {
      const ssize_t got = ::read(fd, content.data() + done, content.size() - done);
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    if (done < content.size()) status = Bad(path, "cannot be read to its end");
  }
  ::close(fd);
  if (!status.ok()) return status;
  return content;
}

absl::StatusOr<json> ParseJson(std::string_view text, std::string_view name, const JsonLimits& limits) {
  if (text.size() > limits.bytes_max)
    return Bad(name, absl::StrCat("has ", text.size(), " bytes, at most ", limits.bytes_max, " are read"));
  if (DepthOf(text) > limits.depth_max)
    return Bad(name, absl::StrCat("is nested deeper than ", limits.depth_max, " levels"));
  if (limits.unique_keys) {
    JsonCheck check(true);
    if (!json::sax_parse(text, &check)) return Bad(name, check.problem());
  }
  json value = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (value.is_discarded()) {
    JsonCheck check(false);
    json::sax_parse(text, &check);
    return Bad(name, check.problem());
  }
  return value;
}

absl::StatusOr<json> ReadJsonFile(const std::string& path, const JsonLimits& limits) {
  MAMBAD_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, limits.bytes_max));
  return ParseJson(text, path, limits);
}

absl::StatusOr<JsonObject> JsonObject::Of(const json& value, std::string_view name) {
  if (!value.is_object()) return Bad(name, absl::StrCat("must be a JSON object, found ", Shown(value)));
  return JsonObject(value, name);
}

const json* JsonObject::Find(std::string_view key) const {
  const json* value = object_;
  while (true) {
    const size_t dot = key.find('.');
    if (!value->is_object()) return nullptr;
    const auto found = value->find(std::string(key.substr(0, dot)));
    if (found == value->end() || found->is_null()) return nullptr;
    value = &*found;
    if (dot == std::string_view::npos) return value;
    key.remove_prefix(dot + 1);
  }
}

absl::StatusOr<int64_t> JsonObject::Integer(std::string_view key, int64_t low, int64_t high,
                                            std::optional<int64_t> fallback) const {
  const json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  std::optional<int64_t> number;
  if (value != nullptr && value->is_number_unsigned()) {
    const uint64_t unsigned_number = value->get<uint64_t>();
    if (unsigned_number <= static_cast<uint64_t>(INT64_MAX)) number = static_cast<int64_t>(unsigned_number);
  } else if (value != nullptr && value->is_number_integer()) {
    number = value->get<int64_t>();
  } else if (value != nullptr && value->is_number_float()) {
    const double real = value->get<double>();
    if (std::trunc(real) == real && std::fabs(real) <= 0x1p53) number = static_cast<int64_t>(real);
  }
  if (!number || *number < low || *number > high)
    return Unexpected(key, absl::StrCat("an integer in [", low, ", ", high, "]"));
  return *number;
}

absl::StatusOr<double> JsonObject::Real(std::string_view key, double low, double high,
                                        std::optional<double> fallback) const {
  const json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_number()) {
    const double number = value->get<double>();
    if (number >= low && number <= high) return number;
  }
  return Unexpected(key, absl::StrCat("a number in [", low, ", ", high, "]"));
}

absl::StatusOr<bool> JsonObject::Boolean(std::string_view key, std::optional<bool> fallback) const {
  const json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_boolean()) return value->get<bool>();
  return Unexpected(key, "true or false");
}

absl::StatusOr<std::string> JsonObject::String(std::string_view key,
                                               std::optional<std::string> fallback) const {
  const json* value = Find(key);
  if (value == nullptr && fallback) return *fallback;
  if (value != nullptr && value->is_string()) return value->get_ref<const std::string&>();
  return Unexpected(key, "a string");
}

absl::Status JsonObject::Error(std::string_view key, std::string_view problem) const {
  return Bad(name_, absl::StrCat(std::string(key), " ", std::string(problem)));
}

absl::Status JsonObject::Unexpected(std::string_view key, std::string_view expected) const {
  const json* value = Find(key);
  if (value == nullptr) return Error(key, "is missing");
  return Error(key, absl::StrCat("must be ", std::string(expected), ", found ", Shown(*value)));
}

}  // namespace mambad
