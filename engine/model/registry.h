// The mixers of this build.
#ifndef MAMBAD_ENGINE_MODEL_REGISTRY_H_
#define MAMBAD_ENGINE_MODEL_REGISTRY_H_

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "absl/status/statusor.h"
#include "engine/model/mixer.h"
#include "kernels/base/dtype.h"

namespace mambad {

struct ModelConfig;

struct MixerEntry {
  std::string_view model_type;      // config.json's "model_type"
  std::string_view architecture;    // the name in its "architectures"
  std::string_view original_layer;  // ssm_cfg.layer of the original form; empty: has none
  // One layer, unbound, whose recurrent state is kept in `state_dtype` (fp32 or bf16) where it can be.
  // INVALID_ARGUMENT naming file and key of a field of the mixer's own.
  absl::StatusOr<std::unique_ptr<Mixer>> (*create)(const ModelConfig& config, kernels::DType state_dtype);
};

std::span<const MixerEntry> Mixers();

// Null: not in this build.
const MixerEntry* FindMixerByType(std::string_view model_type);
const MixerEntry* FindMixerByArchitecture(std::string_view architecture);
const MixerEntry* FindMixerByOriginalLayer(std::string_view layer);

// "MambaForCausalLM, FalconMambaForCausalLM".
std::string RegisteredArchitectures();

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_REGISTRY_H_
