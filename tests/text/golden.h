// Reads the golden files of the tokenizer; tests/data/golden/make_tokenizer_golden.py writes them.
#ifndef MAMBAD_TESTS_TEXT_GOLDEN_H_
#define MAMBAD_TESTS_TEXT_GOLDEN_H_

#include <cstdint>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>

#include "absl/strings/str_format.h"
#include "nlohmann/json.hpp"

namespace mambad::golden {

inline const std::string kData = MAMBAD_TEST_DATA;
inline const std::string kNeoxPath = kData + "/models/gpt-neox-tokenizer/tokenizer.json";
inline const std::string kTalesPath =
    std::string(MAMBAD_SOURCE_DIR) + "/deploy/models/mamba-tales/tokenizer.json";

inline std::string ReadText(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream content;
  content << file.rdbuf();
  return content.str();
}

inline nlohmann::json ReadJson(const std::string& path) {
  return nlohmann::json::parse(ReadText(path), nullptr, false);
}

inline uint64_t Fnv1a(std::string_view bytes, uint64_t hash = 0xCBF29CE484222325u) {
  for (const char byte : bytes) hash = (hash ^ static_cast<uint8_t>(byte)) * 0x100000001B3u;
  return hash;
}

inline uint64_t Fnv1a(std::span<const uint32_t> ids) {
  uint64_t hash = Fnv1a(std::string_view());
  for (const uint32_t id : ids) {
    const char bytes[4] = {static_cast<char>(id), static_cast<char>(id >> 8), static_cast<char>(id >> 16),
                           static_cast<char>(id >> 24)};
    hash = Fnv1a(std::string_view(bytes, 4), hash);
  }
  return hash;
}

inline std::string TextDigest(std::string_view text) { return absl::StrFormat("%016x", Fnv1a(text)); }

inline std::string IdsDigest(std::span<const uint32_t> ids) {
  return absl::StrFormat("%d:%016x", ids.size(), Fnv1a(ids));
}

}  // namespace mambad::golden

#endif  // MAMBAD_TESTS_TEXT_GOLDEN_H_
