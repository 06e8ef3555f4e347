// The settings of mambad's commands, as plain structs bound to flags.
//
// Threads: main's thread.
#ifndef MAMBAD_SERVER_OPTIONS_H_
#define MAMBAD_SERVER_OPTIONS_H_

#include <cstdint>
#include <string>

#include "CLI/CLI.hpp"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "server/address.h"

namespace mambad {

// Which model, and where it runs.
struct ModelOptions {
  std::string model;                // a folder in Hugging Face layout, or shape:NAME
  std::string device = "auto";      // auto, cpu, cuda, cuda:N (counted within CUDA_VISIBLE_DEVICES)
  uint64_t device_memory = 0;       // ceiling of what is taken from the device; 0: what is free
  std::string precision = "auto";   // auto, f32, bf16
  std::string state_dtype = "f32";  // f32, bf16
  uint32_t threads = 0;             // 0: all processors that this process may use
};

struct ServeOptions {
  ModelOptions model;
  std::string model_id;  // empty: the folder's name
  std::string grpc_address = "127.0.0.1:50051";
  std::string http_address = "127.0.0.1:8002";
  bool insecure_plaintext = false;

  uint32_t slots = 0;         // 0: what the state memory holds, within the bounds of DefaultSlots
  uint64_t state_memory = 0;  // 0: 1 GiB, on a GPU half of what the model leaves
  uint32_t max_sessions = 0;  // 0: the engine's default
  absl::Duration session_ttl = absl::Hours(24);
  uint32_t queue_requests = 1024;
  uint64_t queue_tokens = uint64_t{1} << 22;
  uint64_t max_prompt_tokens = uint64_t{1} << 21;
  uint32_t decode_rows = 512;
  double prompt_share = 0.5;
  uint32_t prompt_tokens_per_pass = 0;  // 0: what the model takes at once, at most 1024
  absl::Duration default_deadline = absl::Minutes(10);
  absl::Duration stall_timeout = absl::Seconds(30);
  absl::Duration drain_timeout = absl::Seconds(30);
  absl::Duration device_timeout = absl::Seconds(60);
  std::string log_format = "auto";  // auto, text, json
  std::string log_level = "info";   // debug, info, warning, error
};

// --model --device --device-memory --precision --state-dtype --threads
void AddModelOptions(CLI::App* app, ModelOptions* options);
void AddServeOptions(CLI::App* app, ServeOptions* options);

// What no single flag's range says. INVALID_ARGUMENT naming the flag.
absl::Status CheckServeOptions(const ServeOptions& options);

// The slots of a server when --slots is not given: what `state_memory` holds, at most 512. (1 GiB holds 64
// states of up to 16 MiB.)
uint32_t DefaultSlots(uint64_t state_memory, uint64_t state_bytes);
// --state-memory of a device that has `free` bytes left.
uint64_t DefaultStateMemory(bool gpu, uint64_t free);

EngineOptions ToEngineOptions(const ServeOptions& options, const Model& model);

// The id under which a model is served: --model-id, else the folder's name (or NAME of shape:NAME) with every
// character that an id may not have as '-'. INVALID_ARGUMENT when --model-id is no id.
absl::StatusOr<std::string> ModelId(const ServeOptions& options);

}  // namespace mambad

#endif  // MAMBAD_SERVER_OPTIONS_H_
