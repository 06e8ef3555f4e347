#include "server/loading.h"

#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/model/load.h"
#include "kernels/base/status_macros.h"
#include "server/progress.h"

namespace mambad {
namespace {

constexpr std::string_view kCudaPrefix = "cuda:";

DeviceChoice DeviceOf(const std::string& name) {
  if (name == "cpu") return DeviceChoice::kCpu;
  if (name.starts_with("cuda")) return DeviceChoice::kCuda;
  return DeviceChoice::kAuto;
}

// N of cuda:N.
int OrdinalOf(const std::string& name) {
  int ordinal = 0;
  if (name.starts_with(kCudaPrefix)) {
    for (const char digit : name.substr(kCudaPrefix.size())) ordinal = ordinal * 10 + (digit - '0');
  }
  return ordinal;
}

Precision PrecisionOf(const std::string& name) {
  if (name == "f32") return Precision::kF32;
  if (name == "bf16") return Precision::kBf16;
  return Precision::kAuto;
}

}  // namespace

absl::StatusOr<ModelAndText> Load(const ModelOptions& options, const ForwardLimits& limits,
                                  std::function<void(const std::string& line)> log) {
  Progress progress("loading", "MiB");
  MAMBAD_ASSIGN_OR_RETURN(
      LoadedModel loaded,
      LoadModel({.model = options.model,
                 .device = DeviceOf(options.device),
                 .device_ordinal = OrdinalOf(options.device),
                 .device_memory_bytes = options.device_memory,
                 .threads = static_cast<int>(options.threads),
                 .precision = PrecisionOf(options.precision),
                 .state_dtype = options.state_dtype == "bf16" ? StateDtype::kBf16 : StateDtype::kF32,
                 .limits = limits,
                 .progress = [&](uint64_t done, uint64_t total) { progress.Update(done, total); },
                 .log = std::move(log)}));
  ModelAndText result{.model = std::move(loaded.model), .defaults = std::move(loaded.defaults)};
  if (loaded.tokenizer_path.empty()) return result;
  MAMBAD_ASSIGN_OR_RETURN(result.tokenizer, Tokenizer::Load(loaded.tokenizer_path));
  if (result.tokenizer->vocab_size() > result.model->info().vocab_size) {
    return absl::InvalidArgumentError(absl::StrCat(loaded.tokenizer_path, ": has ",
                                                   result.tokenizer->vocab_size(), " tokens, more than the ",
                                                   result.model->info().vocab_size, " of the model"));
  }
  return result;
}

absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& folder) {
  MAMBAD_ASSIGN_OR_RETURN(std::shared_ptr<const Tokenizer> tokenizer,
                          Tokenizer::Load(folder + "/tokenizer.json"));
  return tokenizer;
}

}  // namespace mambad
