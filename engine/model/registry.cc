#include "engine/model/registry.h"

#include "absl/strings/str_join.h"
#include "engine/model/mixers/mixers.h"

namespace mambad {
namespace {

constexpr MixerEntry kMixers[] = {
    {"mamba", "MambaForCausalLM", "Mamba1", &CreateMamba},
    {"falcon_mamba", "FalconMambaForCausalLM", "", &CreateFalconMamba},
};

const MixerEntry* FindBy(std::string_view MixerEntry::*field, std::string_view name) {
  if (name.empty()) return nullptr;
  for (const MixerEntry& entry : kMixers) {
    if (entry.*field == name) return &entry;
  }
  return nullptr;
}

}  // namespace

std::span<const MixerEntry> Mixers() { return kMixers; }

const MixerEntry* FindMixerByType(std::string_view model_type) {
  return FindBy(&MixerEntry::model_type, model_type);
}
const MixerEntry* FindMixerByArchitecture(std::string_view architecture) {
  return FindBy(&MixerEntry::architecture, architecture);
}
const MixerEntry* FindMixerByOriginalLayer(std::string_view layer) {
  return FindBy(&MixerEntry::original_layer, layer);
}

std::string RegisteredArchitectures() {
  return absl::StrJoin(kMixers, ", ",
                       [](std::string* out, const MixerEntry& entry) { out->append(entry.architecture); });
}

}  // namespace mambad
