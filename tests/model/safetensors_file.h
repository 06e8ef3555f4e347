// Writes safetensors files for tests, damaged ones too.
#ifndef MAMBAD_TESTS_MODEL_SAFETENSORS_FILE_H_
#define MAMBAD_TESTS_MODEL_SAFETENSORS_FILE_H_

#include <cstdint>
#include <fstream>
#include <string>
#include <string_view>

namespace mambad {

inline std::string SafetensorsBytes(std::string_view header, std::string_view data) {
  std::string bytes;
  for (int i = 0; i < 8; ++i) bytes.push_back(static_cast<char>(uint64_t{header.size()} >> (8 * i)));
  bytes.append(header);
  bytes.append(data);
  return bytes;
}

inline void WriteFile(const std::string& path, std::string_view bytes) {
  std::ofstream(path, std::ios::binary) << bytes;
}

inline std::string ReadBytes(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return std::string(std::istreambuf_iterator<char>(in), {});
}

}  // namespace mambad

#endif  // MAMBAD_TESTS_MODEL_SAFETENSORS_FILE_H_
