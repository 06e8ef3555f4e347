// The factories of the mixers, for registry.cc. Each is defined in the file of its mixer.
#ifndef MAMBAD_ENGINE_MODEL_MIXERS_MIXERS_H_
#define MAMBAD_ENGINE_MODEL_MIXERS_MIXERS_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/model/mixer.h"
#include "kernels/base/dtype.h"

namespace mambad {

struct ModelConfig;

absl::StatusOr<std::unique_ptr<Mixer>> CreateMamba(const ModelConfig& config, kernels::DType state_dtype);
absl::StatusOr<std::unique_ptr<Mixer>> CreateFalconMamba(const ModelConfig& config,
                                                         kernels::DType state_dtype);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_MIXERS_MIXERS_H_
