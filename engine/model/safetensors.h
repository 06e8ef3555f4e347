// One safetensors file, mapped and checked: an 8-byte little-endian header length, a JSON header that gives
// every tensor's dtype, shape and byte range, then the bytes.
//
// Source: https://github.com/huggingface/safetensors, "Format". As strict as its reference reader: the byte
// ranges must cover the file without a hole or an overlap. Stricter: no name twice, a header of at most 16
// MiB.
//
// Errors: INVALID_ARGUMENT naming file, tensor, expected and found; NOT_FOUND for a file that is not there.
// Threads: immutable once open.
#ifndef MAMBAD_ENGINE_MODEL_SAFETENSORS_H_
#define MAMBAD_ENGINE_MODEL_SAFETENSORS_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/status.h"
#include "absl/status/statusor.h"

namespace mambad {

inline constexpr size_t kMaxSafetensorsHeaderBytes = size_t{16} << 20;
inline constexpr size_t kMaxTensorRank = 8;

struct TensorEntry {
  std::string name;
  std::string dtype;  // the format's word: "F32", "F16", "BF16", "I32", ...
  std::vector<int64_t> shape;
  size_t begin = 0;  // bytes from the end of the header
  size_t bytes = 0;
};

// "(3, 128)"; the last axis is contiguous.
std::string ShapeText(std::span<const int64_t> shape);

// Checks the first bytes of a file of `file_bytes` bytes. `header` begins at the length field and must hold
// the whole header, or all there is. Entries are in the order of their bytes.
absl::StatusOr<std::vector<TensorEntry>> ParseSafetensorsHeader(std::span<const std::byte> header,
                                                                uint64_t file_bytes, std::string_view file);

class SafetensorsFile {
 public:
  static absl::StatusOr<std::shared_ptr<const SafetensorsFile>> Open(const std::string& path);
  ~SafetensorsFile();
  SafetensorsFile(const SafetensorsFile&) = delete;
  SafetensorsFile& operator=(const SafetensorsFile&) = delete;

  const std::string& path() const { return path_; }
  const std::vector<TensorEntry>& tensors() const { return tensors_; }
  const TensorEntry* Find(std::string_view name) const;
  // Valid as long as the file; aligned as the file has it, which may be to one byte.
  std::span<const std::byte> Bytes(const TensorEntry& entry) const;

 private:
  SafetensorsFile() = default;

  std::string path_;
  const std::byte* map_ = nullptr;
  size_t map_bytes_ = 0;
  size_t data_begin_ = 0;
  std::vector<TensorEntry> tensors_;
  absl::flat_hash_map<std::string, size_t> index_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_SAFETENSORS_H_
