// LoadModel: a folder or shape:NAME to a running model. The one entry for servers, tools and tests.
//
// A folder in Hugging Face's layout: config.json, model.safetensors (or index and shards), and, if there,
// generation_config.json. Errors are one line: NOT_FOUND or INVALID_ARGUMENT naming file and key or tensor,
// RESOURCE_EXHAUSTED when memory does not suffice, FAILED_PRECONDITION when the machine lacks the device.
#ifndef MAMBAD_ENGINE_MODEL_LOAD_H_
#define MAMBAD_ENGINE_MODEL_LOAD_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/generation_config.h"
#include "engine/model/model.h"

namespace mambad {

enum class Precision { kAuto, kF32, kBf16 };  // auto: bf16 for a 16-bit checkpoint, f32 otherwise
enum class StateDtype { kF32, kBf16 };        // of the recurrent state between tokens
enum class DeviceChoice { kAuto, kCpu, kCuda };

struct LoadOptions {
  std::string model;  // folder, or shape:NAME
  DeviceChoice device = DeviceChoice::kAuto;
  int device_ordinal = 0;            // of a GPU, within CUDA_VISIBLE_DEVICES
  uint64_t device_memory_bytes = 0;  // ceiling of what is taken from the device; 0: what is free
  int threads = 0;                   // CPU workers; 0: all CPUs that this process may use
  Precision precision = Precision::kAuto;
  StateDtype state_dtype = StateDtype::kF32;
  ForwardLimits limits;
  std::function<void(uint64_t done, uint64_t total)> progress;  // bytes of weights
  std::function<void(const std::string& line)> log;             // what is odd but no error
};

struct LoadedModel {
  std::shared_ptr<Model> model;
  GenerationDefaults defaults;
  std::string tokenizer_path;  // of the folder's tokenizer.json; empty: none
};

absl::StatusOr<LoadedModel> LoadModel(const LoadOptions& options);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_MODEL_LOAD_H_
