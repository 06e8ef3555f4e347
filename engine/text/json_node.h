// JSON from an untrusted file: bounded parsing, and typed access whose errors name the file and the key.
#ifndef MAMBAD_ENGINE_TEXT_JSON_NODE_H_
#define MAMBAD_ENGINE_TEXT_JSON_NODE_H_

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace mambad {

inline constexpr size_t kMaxJsonDepth = 64;

// INVALID_ARGUMENT naming `file` and the byte position: not JSON, nested deeper than kMaxJsonDepth, or an
// object with the same key twice. Throws nothing.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view file);

// `text` in a form fit for a one-line message: escaped, shortened.
std::string QuoteForMessage(std::string_view text);

// A value and where it lies ("pre_tokenizer.pretokenizers[1]"). A view: document and file name must outlive
// it.
class JsonNode {
 public:
  JsonNode(const nlohmann::json* value, std::string path, std::string_view file)
      : value_(value), path_(std::move(path)), file_(file) {}

  const nlohmann::json& value() const { return *value_; }
  bool is_null() const { return value_->is_null(); }

  // INVALID_ARGUMENT "FILE: PATH: WHAT".
  absl::Status Error(std::string_view what) const;

  // Each of the following is an error naming the key when the value has another type.
  absl::StatusOr<std::string_view> String() const;
  absl::StatusOr<bool> Bool() const;
  absl::StatusOr<uint32_t> Uint(uint32_t max) const;
  absl::StatusOr<std::vector<JsonNode>> Elements() const;

  // An object that has no key but these.
  absl::Status ExpectKeys(std::initializer_list<std::string_view> keys) const;
  // A member of an object; absent is an error, or null.
  absl::StatusOr<JsonNode> Member(std::string_view key) const;
  absl::StatusOr<JsonNode> MemberOrNull(std::string_view key) const;
  // A member that the caller found, with the name of it quoted in the path: for keys that are data.
  JsonNode Entry(std::string_view key, const nlohmann::json& member) const;
  // Members by type. `Or` gives the default for an absent one (null is not absent).
  absl::StatusOr<std::string_view> StringMember(std::string_view key) const;
  absl::StatusOr<bool> BoolMember(std::string_view key) const;
  absl::StatusOr<bool> BoolMemberOr(std::string_view key, bool absent) const;

 private:
  std::string PathOf(std::string_view key) const;

  const nlohmann::json* value_;
  std::string path_;
  std::string_view file_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_JSON_NODE_H_
