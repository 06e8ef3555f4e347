#include "engine/model/load.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <utility>
#include <vector>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "engine/json_file.h"
#include "engine/model/checkpoint.h"
#include "engine/model/mixer_model.h"
#include "engine/model/model_config.h"
#include "engine/model/random_weights.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_probe.h"

namespace mambad {
namespace {

// Prompt tokens that fill a GPU; a CPU is busy with far fewer.
constexpr uint32_t kGpuPromptTokens = 8192;

absl::StatusOr<std::unique_ptr<kernels::Device>> CreateDevice(const LoadOptions& options) {
  kernels::DeviceOptions device;
  device.threads = options.threads;
  device.ordinal = options.device_ordinal;
  device.memory_limit_bytes = options.device_memory_bytes;
  device.kind = options.device == DeviceChoice::kCpu ? kernels::DeviceKind::kCpu : kernels::DeviceKind::kCuda;
  absl::StatusOr<std::unique_ptr<kernels::Device>> created = kernels::Device::Create(device);
  // Only where there is no GPU does `auto` mean the CPU: one that is there and does not work is an error.
  if (options.device != DeviceChoice::kAuto || !absl::IsNotFound(created.status())) return created;
  if (options.log && kernels::BuiltForGpu())
    options.log(absl::StrCat("serving on the CPU: ", std::string(created.status().message())));
  device.kind = kernels::DeviceKind::kCpu;
  return kernels::Device::Create(device);
}

kernels::DType DTypeOf(StateDtype dtype) {
  return dtype == StateDtype::kBf16 ? kernels::DType::kBf16 : kernels::DType::kF32;
}

// What a GPU does otherwise than one might think.
void LogGpu(const MixerModel& model, const LoadOptions& options) {
  if (!model.why_not_fused().empty()) {
    options.log(absl::StrCat(
        options.model, ": the slow general kernels serve this model: ", std::string(model.why_not_fused())));
  }
  if (model.limits().decode_rows < options.limits.decode_rows) {
    options.log(absl::StrCat("a step decodes at most ", model.limits().decode_rows, " rows on a GPU, not ",
                             options.limits.decode_rows));
  }
}

absl::StatusOr<std::shared_ptr<Model>> Build(ModelPlan plan, WeightSource& weights,
                                             std::unique_ptr<kernels::Device> device,
                                             const LoadOptions& options) {
  const bool bf16 =
      options.precision == Precision::kBf16 || (options.precision == Precision::kAuto && weights.is_16_bit());
  ForwardLimits limits = options.limits;
  if (device->is_gpu()) limits.prompt_tokens = std::max(limits.prompt_tokens, kGpuPromptTokens);
  MAMBAD_ASSIGN_OR_RETURN(
      std::shared_ptr<MixerModel> model,
      MixerModel::Create(std::move(plan), weights, std::move(device),
                         bf16 ? kernels::WeightPrecision::kBf16 : kernels::WeightPrecision::kF32, limits,
                         options.progress));
  if (options.log && model->device().is_gpu()) LogGpu(*model, options);
  return model;
}

void LogUnused(const Checkpoint& checkpoint, const ModelPlan& plan, const LoadOptions& options) {
  constexpr size_t kShown = 4;
  std::vector<std::string> unused = checkpoint.Unused(plan.tensors);
  // Tied checkpoints may hold the head a second time.
  if (plan.config.tie_embeddings) std::erase(unused, "lm_head.weight");
  if (unused.empty() || !options.log) return;
  const size_t count = unused.size();
  if (count > kShown) unused.resize(kShown);
  for (std::string& name : unused) name = Printable(name);
  options.log(absl::StrCat(options.model, ": ", count, " tensors of the checkpoint are not used: ",
                           absl::StrJoin(unused, ", "), count > kShown ? ", ..." : ""));
}

absl::StatusOr<LoadedModel> LoadShape(const LoadOptions& options) {
  const std::string name = options.model.substr(kShapePrefix.size());
  MAMBAD_ASSIGN_OR_RETURN(const std::string text, ShapeConfig(name));
  MAMBAD_ASSIGN_OR_RETURN(const ModelConfig config, ParseModelConfig(text, options.model));
  MAMBAD_ASSIGN_OR_RETURN(ModelPlan plan, ModelPlan::Of(config, DTypeOf(options.state_dtype)));
  MAMBAD_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Device> device, CreateDevice(options));
  RandomWeights weights(name, config.n_layer, &device->pool());
  LoadedModel loaded;
  MAMBAD_ASSIGN_OR_RETURN(loaded.model, Build(std::move(plan), weights, std::move(device), options));
  return loaded;
}

absl::StatusOr<LoadedModel> LoadFolder(const LoadOptions& options) {
  const std::string& folder = options.model;
  struct stat info;
  if (::stat(folder.c_str(), &info) != 0 || !S_ISDIR(info.st_mode))
    return absl::NotFoundError(
        absl::StrCat(folder, ": no such model folder (and no ", std::string(kShapePrefix), "NAME)"));
  MAMBAD_ASSIGN_OR_RETURN(ModelConfig config, ReadModelConfig(folder + "/config.json"));
  LoadedModel loaded;
  MAMBAD_ASSIGN_OR_RETURN(loaded.defaults,
                          ReadGenerationConfig(folder + "/generation_config.json", config.vocab_size));
  if (loaded.defaults.eos_token_ids) config.eos_token_ids = *loaded.defaults.eos_token_ids;
  MAMBAD_ASSIGN_OR_RETURN(ModelPlan plan, ModelPlan::Of(config, DTypeOf(options.state_dtype)));
  MAMBAD_ASSIGN_OR_RETURN(std::unique_ptr<Checkpoint> checkpoint, Checkpoint::Open(folder));
  LogUnused(*checkpoint, plan, options);
  MAMBAD_ASSIGN_OR_RETURN(std::unique_ptr<kernels::Device> device, CreateDevice(options));
  MAMBAD_ASSIGN_OR_RETURN(loaded.model, Build(std::move(plan), *checkpoint, std::move(device), options));
  const std::string tokenizer = folder + "/tokenizer.json";
  if (::access(tokenizer.c_str(), F_OK) == 0) loaded.tokenizer_path = tokenizer;
  return loaded;
}

}  // namespace

absl::StatusOr<LoadedModel> LoadModel(const LoadOptions& options) {
  return options.model.starts_with(kShapePrefix) ? LoadShape(options) : LoadFolder(options);
}

}  // namespace mambad
