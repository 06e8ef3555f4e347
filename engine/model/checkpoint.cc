#include "engine/model/checkpoint.h"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using kernels::DType;

constexpr char kEmbedding[] = "backbone.embeddings.weight";
constexpr char kOriginalEmbedding[] = "backbone.embedding.weight";
constexpr size_t kMaxIndexBytes = size_t{16} << 20;

std::optional<DType> FloatType(std::string_view word) {
  if (word == "F32") return DType::kF32;
  if (word == "BF16") return DType::kBf16;
  if (word == "F16") return DType::kF16;
  return std::nullopt;
}

// A file of the folder itself: nothing that leads out of it.
bool IsPlainFileName(std::string_view name) {
  constexpr std::string_view kSuffix = ".safetensors";
  return name.size() > kSuffix.size() && name.size() <= 255 && name.ends_with(kSuffix) && name[0] != '.' &&
         name.find('/') == std::string_view::npos && name.find('\0') == std::string_view::npos;
}

// Index of the first element whose exponent bits are all ones, or `count`.
template <class Word, Word kExponent>
int64_t FirstNonFinite(const void* data, int64_t count) {
  const Word* words = static_cast<const Word*>(data);
  constexpr int64_t kBlock = 4096;
  for (int64_t begin = 0; begin < count; begin += kBlock) {
    const int64_t end = std::min(count, begin + kBlock);
    Word any = 0;
    for (int64_t i = begin; i < end; ++i) any |= static_cast<Word>((words[i] & kExponent) == kExponent);
    if (any == 0) continue;
    for (int64_t i = begin; i < end; ++i) {
      if ((words[i] & kExponent) == kExponent) return i;
    }
  }
  return count;
}

int64_t FirstNonFinite(const HostTensor& tensor) {
  switch (tensor.dtype) {
    case DType::kF32:
      return FirstNonFinite<uint32_t, 0x7f800000u>(tensor.data, tensor.elements);
    case DType::kBf16:
      return FirstNonFinite<uint16_t, 0x7f80u>(tensor.data, tensor.elements);
    case DType::kF16:
      return FirstNonFinite<uint16_t, 0x7c00u>(tensor.data, tensor.elements);
  }
  return 0;
}

absl::Status Bad(std::string_view file, std::string_view problem) {
  return absl::InvalidArgumentError(absl::StrCat(std::string(file), ": ", std::string(problem)));
}

}  // namespace

absl::StatusOr<std::unique_ptr<Checkpoint>> Checkpoint::Open(const std::string& folder) {
  std::unique_ptr<Checkpoint> checkpoint(new Checkpoint());
  checkpoint->name_ = folder + "/model.safetensors";
  absl::Status status = checkpoint->AddFile(checkpoint->name_);
  if (absl::IsNotFound(status)) {
    checkpoint->name_ = folder + "/model.safetensors.index.json";
    status = checkpoint->AddShards(folder, checkpoint->name_);
    if (absl::IsNotFound(status) && checkpoint->files_.empty())
      return absl::NotFoundError(
          absl::StrCat(folder, ": has neither model.safetensors nor model.safetensors.index.json"));
  }
  MAMBAD_RETURN_IF_ERROR(status);
  return checkpoint;
}

absl::Status Checkpoint::AddFile(const std::string& path) {
  MAMBAD_ASSIGN_OR_RETURN(std::shared_ptr<const SafetensorsFile> file, SafetensorsFile::Open(path));
  for (const TensorEntry& entry : file->tensors()) places_[entry.name] = Place{file.get(), &entry};
  files_.push_back(std::move(file));
  return absl::OkStatus();
}

absl::Status Checkpoint::AddShards(const std::string& folder, const std::string& index_path) {
  JsonLimits limits;
  limits.bytes_max = kMaxIndexBytes;
  limits.depth_max = 8;
  limits.unique_keys = true;
  MAMBAD_ASSIGN_OR_RETURN(const nlohmann::json json, ReadJsonFile(index_path, limits));
  MAMBAD_ASSIGN_OR_RETURN(const JsonObject index, JsonObject::Of(json, index_path));
  const nlohmann::json* weight_map = index.Find("weight_map");
  if (weight_map == nullptr || !weight_map->is_object() || weight_map->empty())
    return index.Error("weight_map", "must be an object of tensor names and file names");

  std::map<std::string, const SafetensorsFile*> shards;
  for (const auto& [tensor, shard_json] : weight_map->items()) {
    if (!shard_json.is_string() || !IsPlainFileName(shard_json.get_ref<const std::string&>()))
      return index.Error("weight_map", absl::StrCat("gives tensor ", Printable(tensor),
                                                    " no plain .safetensors file name of this folder"));
    const auto& shard = shard_json.get_ref<const std::string&>();
    const SafetensorsFile*& file = shards[shard];
    if (file == nullptr) {
      if (shards.size() > kMaxShards)
        return index.Error("weight_map", absl::StrCat("names more than ", kMaxShards, " files"));
      absl::StatusOr<std::shared_ptr<const SafetensorsFile>> opened =
          SafetensorsFile::Open(folder + "/" + shard);
      if (absl::IsNotFound(opened.status()))
        return index.Error("weight_map", absl::StrCat("names ", Printable(shard), ", which is not there"));
      if (!opened.ok()) return opened.status();
      file = opened->get();
      files_.push_back(*std::move(opened));
    }
    const TensorEntry* entry = file->Find(tensor);
    if (entry == nullptr)
      return index.Error("weight_map", absl::StrCat("puts tensor ", Printable(tensor), " into ",
                                                    Printable(shard), ", which does not have it"));
    places_[tensor] = Place{file, entry};
  }
  return absl::OkStatus();
}

const Checkpoint::Place* Checkpoint::Find(std::string_view name) const {
  auto found = places_.find(std::string(name));
  if (found == places_.end() && name == kEmbedding) found = places_.find(kOriginalEmbedding);
  return found == places_.end() ? nullptr : &found->second;
}

absl::Status Checkpoint::Check(const TensorSpec& spec) const {
  const Place* place = Find(spec.name);
  if (place == nullptr)
    return Bad(name_, absl::StrCat("tensor ", spec.name, " is missing, expected ", ShapeText(spec.shape)));
  if (place->entry->shape != spec.shape)
    return Bad(place->file->path(),
               absl::StrCat("tensor ", spec.name, ": expected shape ", ShapeText(spec.shape), ", found ",
                            ShapeText(place->entry->shape)));
  if (!FloatType(place->entry->dtype))
    return Bad(place->file->path(), absl::StrCat("tensor ", spec.name, ": expected F32, F16 or BF16, found ",
                                                 place->entry->dtype));
  return absl::OkStatus();
}

absl::StatusOr<HostTensor> Checkpoint::Load(const TensorSpec& spec) {
  MAMBAD_RETURN_IF_ERROR(Check(spec));
  const Place& place = *Find(spec.name);
  const std::span<const std::byte> bytes = place.file->Bytes(*place.entry);
  HostTensor tensor{bytes.data(), *FloatType(place.entry->dtype), spec.elements()};
  if (reinterpret_cast<uintptr_t>(bytes.data()) % kernels::SizeOf(tensor.dtype) != 0) {
    aligned_.assign(bytes.begin(), bytes.end());
    tensor.data = aligned_.data();
  }
  const int64_t bad = FirstNonFinite(tensor);
  if (bad < tensor.elements)
    return Bad(place.file->path(),
               absl::StrCat("tensor ", spec.name, ": element ", bad, " is not a finite number"));
  digest_.Add(spec.name);
  digest_.Add(absl::StrCat(place.entry->dtype, ShapeText(spec.shape)));
  digest_.Add(bytes);
  return tensor;
}

bool Checkpoint::is_16_bit() const {
  const Place* embedding = Find(kEmbedding);
  return embedding != nullptr && embedding->entry->dtype != "F32";
}

std::vector<std::string> Checkpoint::Unused(std::span<const TensorSpec> specs) const {
  std::set<std::string> used = {kOriginalEmbedding};
  for (const TensorSpec& spec : specs) used.insert(spec.name);
  std::vector<std::string> unused;
  for (const auto& [name, place] : places_) {
    if (!used.contains(name)) unused.push_back(name);
  }
  std::sort(unused.begin(), unused.end());
  return unused;
}

}  // namespace mambad
