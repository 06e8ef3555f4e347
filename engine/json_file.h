// Reading JSON that others wrote: config.json, generation_config.json, tokenizer.json, safetensors headers.
// Everything in it is hostile until proven otherwise: bytes and depth are bounded before anything is built,
// and every look-up checks type and range. Nothing here throws.
//
// Errors are INVALID_ARGUMENT, one line that begins with the name of the file (NOT_FOUND when there is none).
// Threads: pure functions.
#ifndef MAMBAD_ENGINE_JSON_FILE_H_
#define MAMBAD_ENGINE_JSON_FILE_H_

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "nlohmann/json.hpp"

namespace mambad {

struct JsonLimits {
  size_t bytes_max = size_t{1} << 20;
  int depth_max = 64;
  bool unique_keys = false;  // refuse an object that names a key twice; otherwise the last one counts
};

// A text from outside made fit for a one-line message: control characters and invalid UTF-8 escaped, cut
// after 80 bytes.
std::string Printable(std::string_view text);

// The content of a regular file of at most `bytes_max` bytes.
absl::StatusOr<std::string> ReadFile(const std::string& path, size_t bytes_max);

// `name` stands for the file in error messages.
absl::StatusOr<nlohmann::json> ParseJson(std::string_view text, std::string_view name,
                                         const JsonLimits& limits);
absl::StatusOr<nlohmann::json> ReadJsonFile(const std::string& path, const JsonLimits& limits);

// A JSON object with typed look-ups. A key that is absent or null gives `fallback`; without one it is an
// error. Keys may be paths ("ssm_cfg.d_state"). Borrows `object`.
class JsonObject {
 public:
  // INVALID_ARGUMENT when `json` is no object.
  static absl::StatusOr<JsonObject> Of(const nlohmann::json& json, std::string_view name);

  bool Has(std::string_view key) const { return Find(key) != nullptr; }
  // Null when absent or JSON's null.
  const nlohmann::json* Find(std::string_view key) const;

  // An integer in [low, high]; 2.0 counts as 2.
  absl::StatusOr<int64_t> Integer(std::string_view key, int64_t low, int64_t high,
                                  std::optional<int64_t> fallback = {}) const;
  // A finite number in [low, high].
  absl::StatusOr<double> Real(std::string_view key, double low, double high,
                              std::optional<double> fallback = {}) const;
  absl::StatusOr<bool> Boolean(std::string_view key, std::optional<bool> fallback = {}) const;
  absl::StatusOr<std::string> String(std::string_view key, std::optional<std::string> fallback = {}) const;

  // "FILE: KEY PROBLEM".
  absl::Status Error(std::string_view key, std::string_view problem) const;
  const std::string& name() const { return name_; }

 private:
  JsonObject(const nlohmann::json& object, std::string_view name) : object_(&object), name_(name) {}
  absl::Status Unexpected(std::string_view key, std::string_view expected) const;

  const nlohmann::json* object_;
  std::string name_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_JSON_FILE_H_
