// Checkpoint: a model folder's weights. One model.safetensors, or model.safetensors.index.json and its
// shards; F32, F16 and BF16. Hugging Face's tensor names, and the original ones of state-spaces.
//
// Nothing in the folder is trusted: shards are plain file names of the same folder, every tensor is checked
// against what the config asks for before anything is allocated, and a NaN or infinity among the weights is
// refused. The files stay mapped, not copied; a file that shrinks while it is mapped ends the process
// (SIGBUS).
#ifndef MAMBAD_ENGINE_MODEL_CHECKPOINT_H_
#define MAMBAD_ENGINE_MODEL_CHECKPOINT_H_

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "engine/model/digest.h"
#include "engine/model/safetensors.h"
#include "engine/model/weight_source.h"

namespace mambad {

class Checkpoint : public WeightSource {
 public:
  static constexpr size_t kMaxShards = 1024;

  // INVALID_ARGUMENT naming the file; NOT_FOUND when the folder has no weights.
  static absl::StatusOr<std::unique_ptr<Checkpoint>> Open(const std::string& folder);

  absl::Status Check(const TensorSpec& spec) const override;
  absl::StatusOr<HostTensor> Load(const TensorSpec& spec) override;
  bool is_16_bit() const override;
  std::string digest() const override { return digest_.Hex(); }

  // Tensors of the folder that `specs` do not name, in the order of their names.
  std::vector<std::string> Unused(std::span<const TensorSpec> specs) const;

 private:
  struct Place {
    const SafetensorsFile* file = nullptr;
    const TensorEntry* entry = nullptr;
  };

  Checkpoint() = default;
  absl::Status AddFile(const std::string& path);
  absl::Status AddShards(const std::string& folder, const std::string& index_path);
  const Place* Find(std::string_view name) const;

  std::string name_;  // of the file, or of the index, in errors
  std::vector<std::shared_ptr<const SafetensorsFile>> files_;
  absl::flat_hash_map<std::string, Place> places_;
  std::vector<std::byte> aligned_;  // a copy of the tensor just loaded, where the file has it misaligned
  Digest digest_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_CHECKPOINT_H_
