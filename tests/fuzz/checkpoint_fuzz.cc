// libFuzzer target of everything that is parsed in a model folder: the first byte chooses the parser, the
// rest is the file. Aborts when an accepted file breaks a promise; the sanitizers see the rest.
//
//   cmake -S . -B build/fuzz -G Ninja -DCMAKE_CXX_COMPILER=clang++ -DMAMBAD_FUZZ=ON
//   cmake --build build/fuzz --target checkpoint_fuzz && build/fuzz/bin/checkpoint_fuzz -max_len=4096
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "engine/model/generation_config.h"
#include "engine/model/mixer_model.h"
#include "engine/model/model_config.h"
#include "engine/model/safetensors.h"
#include "kernels/base/check.h"

namespace {

// One line for a person, whatever the file holds.
void CheckError(const absl::Status& status) {
  MAMBAD_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  MAMBAD_CHECK(status.message().size() < 1000);
  for (const char c : status.message()) MAMBAD_CHECK(static_cast<unsigned char>(c) >= 0x20);
}

void FuzzSafetensors(std::string_view file) {
  const auto entries =
      mambad::ParseSafetensorsHeader(std::as_bytes(std::span(file.data(), file.size())), file.size(), "fuzz");
  if (!entries.ok()) return CheckError(entries.status());
  for (const mambad::TensorEntry& entry : *entries) {
    MAMBAD_CHECK(entry.begin <= file.size() && entry.bytes <= file.size() - entry.begin);
    MAMBAD_CHECK(entry.shape.size() <= mambad::kMaxTensorRank);
  }
}

void FuzzConfig(std::string_view file) {
  const absl::StatusOr<mambad::ModelConfig> config = mambad::ParseModelConfig(file, "fuzz");
  if (!config.ok()) return CheckError(config.status());
  MAMBAD_CHECK(config->vocab_size > 0 && config->d_model > 0 && config->n_layer > 0);
  const absl::StatusOr<mambad::ModelPlan> plan = mambad::ModelPlan::Of(*config);
  if (!plan.ok()) return CheckError(plan.status());
  MAMBAD_CHECK(plan->state_layout.stride >= plan->state_layout.bytes && plan->parameters > 0);
}

void FuzzGenerationConfig(std::string_view file) {
  const auto defaults = mambad::ParseGenerationConfig(file, "fuzz", /*vocab_size=*/100);
  if (!defaults.ok()) return CheckError(defaults.status());
  MAMBAD_CHECK(!defaults->top_p || (*defaults->top_p > 0 && *defaults->top_p <= 1));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  if (size == 0) return 0;
  const std::string_view file(reinterpret_cast<const char*>(data) + 1, size - 1);
  switch (data[0] % 3) {
    case 0:
      FuzzSafetensors(file);
      break;
    case 1:
      FuzzConfig(file);
      break;
    default:
      FuzzGenerationConfig(file);
  }
  return 0;
}
