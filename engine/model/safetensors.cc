#include "engine/model/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json_file.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr size_t kLengthBytes = 8;

struct DTypeWord {
  std::string_view word;
  size_t bytes;
};
constexpr std::array kDTypeWords = {
    DTypeWord{"F64", 8},  DTypeWord{"F32", 4},     DTypeWord{"F16", 2},     DTypeWord{"BF16", 2},
    DTypeWord{"I64", 8},  DTypeWord{"I32", 4},     DTypeWord{"I16", 2},     DTypeWord{"I8", 1},
    DTypeWord{"U64", 8},  DTypeWord{"U32", 4},     DTypeWord{"U16", 2},     DTypeWord{"U8", 1},
    DTypeWord{"BOOL", 1}, DTypeWord{"F8_E4M3", 1}, DTypeWord{"F8_E5M2", 1},
};

size_t BytesOf(std::string_view word) {
  for (const DTypeWord& dtype : kDTypeWords) {
    if (dtype.word == word) return dtype.bytes;
  }
  return 0;
}

absl::Status Bad(std::string_view file, std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(file), ": ", std::string(problem)));
}

absl::Status BadTensor(std::string_view file, std::string_view tensor, std::string_view problem) {
  return Bad(file, absl::StrCat("tensor ", Printable(tensor), ": ", std::string(problem)));
}

// A list of non-negative integers of at most `size_max` entries.
bool ReadSizes(const nlohmann::json& list, size_t size_max, std::vector<uint64_t>* sizes) {
  if (!list.is_array() || list.size() > size_max) return false;
  for (const nlohmann::json& number : list) {
    if (!number.is_number_unsigned()) return false;
    sizes->push_back(number.get<uint64_t>());
  }
  return true;
}

absl::StatusOr<TensorEntry> ParseEntry(const std::string& name, const nlohmann::json& value,
                                       uint64_t data_bytes, std::string_view file) {
  if (!value.is_object()) return BadTensor(file, name, "its header entry must be an object");
  TensorEntry entry;
  entry.name = name;
  const auto dtype = value.find("dtype");
  if (dtype == value.end() || !dtype->is_string()) return BadTensor(file, name, "dtype must be a string");
  entry.dtype = dtype->get_ref<const std::string&>();
  const size_t element_bytes = BytesOf(entry.dtype);
  if (element_bytes == 0)
    return BadTensor(file, name, absl::StrCat("unknown dtype \"", Printable(entry.dtype), "\""));

  std::vector<uint64_t> shape;
  const auto shape_json = value.find("shape");
  if (shape_json == value.end() || !ReadSizes(*shape_json, kMaxTensorRank, &shape))
    return BadTensor(
        file, name,
        absl::StrCat("shape must be a list of at most ", kMaxTensorRank, " non-negative integers"));
  uint64_t expected_bytes = element_bytes;
  for (const uint64_t extent : shape) {
    if (extent > uint64_t{INT64_MAX} || __builtin_mul_overflow(expected_bytes, extent, &expected_bytes))
      return BadTensor(file, name, "its shape overflows 64 bits");
    entry.shape.push_back(static_cast<int64_t>(extent));
  }

  std::vector<uint64_t> offsets;
  const auto offsets_json = value.find("data_offsets");
  if (offsets_json == value.end() || !ReadSizes(*offsets_json, 2, &offsets) || offsets.size() != 2 ||
      offsets[0] > offsets[1])
    return BadTensor(file, name, "data_offsets must be two ascending non-negative integers");
  if (offsets[1] > data_bytes)
    return BadTensor(file, name,
                     absl::StrCat("ends at byte ", offsets[1], " of the data, the file has ", data_bytes));
  if (offsets[1] - offsets[0] != expected_bytes)
    return BadTensor(file, name,
                     absl::StrCat("expected ", expected_bytes, " bytes for ", entry.dtype, " ",
                                  ShapeText(entry.shape), ", found ", offsets[1] - offsets[0]));
  entry.begin = offsets[0];
  entry.bytes = expected_bytes;
  return entry;
}

// REQUIRES: in the order of their bytes.
absl::Status CheckCoverage(const std::vector<TensorEntry>& entries, uint64_t data_bytes,
                           std::string_view file) {
  uint64_t end = 0;
  for (const TensorEntry& entry : entries) {
    if (entry.begin != end)
      return BadTensor(file, entry.name,
                       absl::StrCat("begins at byte ", entry.begin, " of the data, expected ", end,
                                    entry.begin < end ? " (overlap)" : " (hole)"));
    end = entry.begin + entry.bytes;
  }
  if (end != data_bytes)
    return Bad(file, absl::StrCat("its tensors cover ", end, " bytes of data, the file has ", data_bytes));
  return absl::OkStatus();
}

}  // namespace

std::string ShapeText(std::span<const int64_t> shape) {
  return absl::StrCat("(", absl::StrJoin(shape.begin(), shape.end(), ", "), ")");
}

absl::StatusOr<std::vector<TensorEntry>> ParseSafetensorsHeader(std::span<const std::byte> header,
                                                                uint64_t file_bytes, std::string_view file) {
  if (file_bytes < kLengthBytes || header.size() < kLengthBytes)
    return Bad(file, absl::StrCat("has ", file_bytes, " bytes, too few for a safetensors file"));
  uint64_t length = 0;
  for (size_t i = 0; i < kLengthBytes; ++i) length |= std::to_integer<uint64_t>(header[i]) << (8 * i);
  if (length > kMaxSafetensorsHeaderBytes)
    return Bad(file, absl::StrCat("its header claims ", length, " bytes, at most ",
                                  kMaxSafetensorsHeaderBytes, " are read (is it a safetensors file?)"));
  if (length > file_bytes - kLengthBytes || length > header.size() - kLengthBytes)
    return Bad(file, absl::StrCat("is truncated: its header claims ", length, " bytes, ",
                                  file_bytes - kLengthBytes, " follow"));
  const std::string_view text(reinterpret_cast<const char*>(header.data()) + kLengthBytes, length);
  JsonLimits limits;
  limits.bytes_max = kMaxSafetensorsHeaderBytes;
  limits.depth_max = 8;
  limits.unique_keys = true;
  MAMBAD_ASSIGN_OR_RETURN(const nlohmann::json json,
                          ParseJson(text, absl::StrCat(std::string(file), " (header)"), limits));
  if (!json.is_object()) return Bad(file, "its header must be a JSON object");

  const uint64_t data_bytes = file_bytes - kLengthBytes - length;
  std::vector<TensorEntry> entries;
  for (const auto& [name, value] : json.items()) {
    if (name == "__metadata__") continue;
    MAMBAD_ASSIGN_OR_RETURN(TensorEntry entry, ParseEntry(name, value, data_bytes, file));
    entries.push_back(std::move(entry));
  }
  std::sort(entries.begin(), entries.end(), [](const TensorEntry& a, const TensorEntry& b) {
    return std::pair(a.begin, a.bytes) < std::pair(b.begin, b.bytes);
  });
  MAMBAD_RETURN_IF_ERROR(CheckCoverage(entries, data_bytes, file));
  return entries;
}

absl::StatusOr<std::shared_ptr<const SafetensorsFile>> SafetensorsFile::Open(const std::string& path) {
  // O_NONBLOCK: a FIFO in the place of the file must not hang the open.
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
  if (fd < 0) {
    if (errno == ENOENT) return absl::NotFoundError(absl::StrCat(path, ": no such file"));
    return Bad(path, absl::StrCat("cannot be opened: ", std::strerror(errno)));
  }
  std::shared_ptr<SafetensorsFile> file(new SafetensorsFile());
  file->path_ = path;
  struct stat info;
  absl::Status status;
  if (::fstat(fd, &info) != 0 || !S_ISREG(info.st_mode)) {
    status = Bad(path, "is not a regular file");
  } else if (info.st_size > 0) {
    void* map = ::mmap(nullptr, static_cast<size_t>(info.st_size), PROT_READ, MAP_PRIVATE, fd, 0);
    if (map == MAP_FAILED) {
      status = Bad(path, absl::StrCat("cannot be mapped: ", std::strerror(errno)));
    } else {
      file->map_ = static_cast<const std::byte*>(map);
      file->map_bytes_ = static_cast<size_t>(info.st_size);
    }
  }
  ::close(fd);
  MAMBAD_RETURN_IF_ERROR(status);
  const std::span<const std::byte> all(file->map_, file->map_bytes_);
  MAMBAD_ASSIGN_OR_RETURN(file->tensors_, ParseSafetensorsHeader(all, all.size(), path));
  size_t data = 0;
  for (const TensorEntry& entry : file->tensors_) data += entry.bytes;
  file->data_begin_ = all.size() - data;
  for (size_t i = 0; i < file->tensors_.size(); ++i) file->index_[file->tensors_[i].name] = i;
  return file;
}

SafetensorsFile::~SafetensorsFile() {
  if (map_ != nullptr) ::munmap(const_cast<std::byte*>(map_), map_bytes_);
}

const TensorEntry* SafetensorsFile::Find(std::string_view name) const {
  const auto found = index_.find(std::string(name));
  return found == index_.end() ? nullptr : &tensors_[found->second];
}

std::span<const std::byte> SafetensorsFile::Bytes(const TensorEntry& entry) const {
  return {map_ + data_begin_ + entry.begin, entry.bytes};
}

}  // namespace mambad
