#include "server/options.h"

#include <algorithm>
#include <cctype>
#include <filesystem>
#include <string_view>
#include <system_error>
#include <utility>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "engine/device_info.h"
#include "engine/model/model.h"
#include "engine/session/state_pool.h"
#include "kernels/base/status_macros.h"
#include "server/command_line.h"

namespace mambad {
namespace {

constexpr uint32_t kDefaultSlotsMax = 512;
constexpr uint32_t kPromptTokensPerPass = 1024;
constexpr size_t kModelIdBytesMax = 128;

bool IsModelIdChar(char c) {
  return std::isalnum(static_cast<unsigned char>(c)) != 0 ||
         std::string_view("._:-").find(c) != std::string_view::npos;
}

absl::Status CheckAddress(const std::string& flag, const std::string& text, bool insecure_plaintext) {
  const absl::StatusOr<Address> address = ParseAddress(text);
  if (!address.ok()) {
    return absl::InvalidArgumentError(absl::StrCat("--", flag, ": ", address.status().message()));
  }
  if (address->IsLoopback() || insecure_plaintext) return absl::OkStatus();
  return absl::InvalidArgumentError(
      absl::StrCat("--", flag, " is reachable from other machines and the connection is not encrypted: ",
                   "add --insecure-plaintext, or listen on 127.0.0.1"));
}

std::string CheckDevice(const std::string& text) {
  const std::string_view ordinal =
      std::string_view(text).starts_with("cuda:") ? std::string_view(text).substr(5) : "0";
  const bool number = !ordinal.empty() && ordinal.size() <= 3 &&
                      std::ranges::all_of(ordinal, [](unsigned char c) { return std::isdigit(c) != 0; });
  if (text == "auto" || text == "cpu" || text == "cuda" || (text.starts_with("cuda:") && number)) return "";
  return "must be auto, cpu, cuda or cuda:N";
}

}  // namespace

void AddModelOptions(CLI::App* app, ModelOptions* options) {
  MarkRequired(app->add_option("--model", options->model,
                               "Folder in Hugging Face layout, or shape:NAME for random weights"));
  app->add_option("--device", options->device, "auto (a GPU if there is one), cpu, cuda or cuda:N")
      ->check(CheckDevice)
      ->capture_default_str();
  AddBytes(
      app, "--device-memory", &options->device_memory,
      "Most that weights, states and workspaces take of the device (context and graphs come on top); 0: what "
      "is free but for 1GiB");
  app->add_option("--precision", options->precision, "auto (bf16 for a 16-bit checkpoint), f32 or bf16")
      ->check(CLI::IsMember({"auto", "f32", "bf16"}))
      ->capture_default_str();
  app->add_option(
         "--state-dtype", options->state_dtype,
         "f32, or bf16: nearly half of a state's memory and traffic, rounded at random after each token")
      ->check(CLI::IsMember({"f32", "bf16"}))
      ->capture_default_str();
  app->add_option("--threads", options->threads, "Threads of the CPU device; 0: all processors")
      ->check(CLI::Range(0, 256))
      ->capture_default_str();
}

void AddServeOptions(CLI::App* app, ServeOptions* options) {
  AddModelOptions(app, &options->model);
  app->add_option("--model-id", options->model_id,
                  "Name of the model in the API (default: the folder's name)");
  app->add_option("--grpc-address", options->grpc_address, "HOST:PORT of gRPC; port 0 takes a free one")
      ->capture_default_str();
  app->add_option("--http-address", options->http_address, "HOST:PORT of /metrics, /healthz and /readyz")
      ->capture_default_str();
  app->add_flag("--insecure-plaintext", options->insecure_plaintext,
                "Allow addresses that other machines can reach, without encryption");
  app->add_option("--slots", options->slots, "State slots; 0: as many as --state-memory holds, at most 512")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  AddBytes(app, "--state-memory", &options->state_memory,
           "Memory of all states, unless --slots is given; 0: 1GiB, on a GPU half of what is left");
  app->add_option("--max-sessions", options->max_sessions,
                  "Sessions at a time; 0: seven eighths of the slots")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  AddDuration(app, "--session-ttl", &options->session_ttl, "Idle time after which a session is deleted");
  app->add_option("--queue-requests", options->queue_requests, "Requests that may wait")
      ->check(CLI::Range(1, 1 << 20))
      ->capture_default_str();
  app->add_option("--queue-tokens", options->queue_tokens, "Prompt tokens that may wait")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 32))
      ->capture_default_str();
  app->add_option("--max-prompt-tokens", options->max_prompt_tokens, "Longest prompt of a request")
      ->check(CLI::Range(uint64_t{1}, uint64_t{1} << 30))
      ->capture_default_str();
  app->add_option("--decode-rows", options->decode_rows, "Sequences that one step decodes at most")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  app->add_option(
         "--prompt-share", options->prompt_share,
         "Share of the time that prompts take while streams run: 0.5 doubles the time between tokens")
      ->check(CLI::Range(0.01, 1.0))
      ->capture_default_str();
  app->add_option("--prompt-tokens-per-pass", options->prompt_tokens_per_pass,
                  "Prompt tokens read together while streams run: more are read faster, but keep new prompts "
                  "waiting longer; 0: as many as the device reads at once, at most 1024")
      ->check(CLI::Range(0, 65536))
      ->capture_default_str();
  AddDuration(app, "--default-deadline", &options->default_deadline,
              "Deadline of a call whose client set none; 0: none");
  AddDuration(app, "--stall-timeout", &options->stall_timeout,
              "How long the reader of a stream may be behind before the request ends");
  AddDuration(app, "--drain-timeout", &options->drain_timeout,
              "How long running requests may go on after SIGTERM");
  AddDuration(app, "--device-timeout", &options->device_timeout,
              "How long one step may take before the device counts as lost (exit code 3); 0: for ever");
  app->add_option("--log-format", options->log_format, "auto (text on a terminal), text or json")
      ->check(CLI::IsMember({"auto", "text", "json"}))
      ->capture_default_str();
  app->add_option("--log-level", options->log_level, "debug, info, warning or error")
      ->check(CLI::IsMember({"debug", "info", "warning", "error"}))
      ->capture_default_str();
}

absl::Status CheckServeOptions(const ServeOptions& options) {
  MAMBAD_RETURN_IF_ERROR(CheckAddress("grpc-address", options.grpc_address, options.insecure_plaintext));
  MAMBAD_RETURN_IF_ERROR(CheckAddress("http-address", options.http_address, options.insecure_plaintext));
  if (options.session_ttl < absl::Seconds(1)) {
    return absl::InvalidArgumentError("--session-ttl must be at least 1s");
  }
  if (options.stall_timeout < absl::Seconds(1)) {
    return absl::InvalidArgumentError("--stall-timeout must be at least 1s");
  }
  if (options.slots != 0 && options.max_sessions >= options.slots) {
    return absl::InvalidArgumentError("--max-sessions must be below --slots");
  }
  return ModelId(options).status();
}

uint32_t DefaultSlots(uint64_t state_memory, uint64_t state_bytes) {
  const uint64_t bytes = std::max<uint64_t>(state_bytes, 1);
  return static_cast<uint32_t>(std::min<uint64_t>(state_memory / bytes, kDefaultSlotsMax));
}

uint64_t DefaultStateMemory(bool gpu, uint64_t free) { return gpu ? free / 2 : uint64_t{1} << 30; }

EngineOptions ToEngineOptions(const ServeOptions& options, const Model& model) {
  const DeviceInfo device = DescribeDevice(model);
  const bool gpu = device.kind == "cuda";
  EngineOptions engine;
  engine.state_memory_bytes =
      options.state_memory != 0 ? options.state_memory : DefaultStateMemory(gpu, device.free_bytes);
  const StateLayout& layout = model.state_layout();
  // 0 asks the engine, whose error names need and budget.
  engine.state_slots =
      options.slots != 0 ? options.slots : DefaultSlots(engine.state_memory_bytes, layout.bytes);
  if (options.slots == 0 && layout.narrow()) {
    engine.state_slots =
        std::min(engine.state_slots, StatePool::SlotsThatFit(layout, engine.state_memory_bytes));
  }
  engine.sessions_max = options.max_sessions;
  engine.session_ttl_default = options.session_ttl;
  engine.queue_requests_max = options.queue_requests;
  engine.queue_tokens_max = options.queue_tokens;
  engine.prompt_tokens_max = options.max_prompt_tokens;
  engine.decode_rows_max = options.decode_rows;
  engine.prompt_share = options.prompt_share;
  engine.prompt_tokens_per_pass = options.prompt_tokens_per_pass != 0
                                      ? options.prompt_tokens_per_pass
                                      : std::min(kPromptTokensPerPass, model.limits().prompt_tokens);
  engine.prompt_tokens_per_pass_idle = model.limits().prompt_tokens;
  engine.stall_timeout = options.stall_timeout;
  engine.device_timeout = options.device_timeout;
  return engine;
}

absl::StatusOr<std::string> ModelId(const ServeOptions& options) {
  if (!options.model_id.empty()) {
    if (options.model_id.size() <= kModelIdBytesMax && std::ranges::all_of(options.model_id, IsModelIdChar)) {
      return options.model_id;
    }
    return absl::InvalidArgumentError("--model-id must be 1 to 128 characters of [A-Za-z0-9._:-]");
  }
  std::string id;
  if (options.model.model.starts_with("shape:")) {
    id = options.model.model.substr(6);
  } else {
    std::error_code ignored;
    const std::filesystem::path folder = std::filesystem::weakly_canonical(options.model.model, ignored);
    id = folder.has_filename() ? folder.filename().string() : folder.parent_path().filename().string();
  }
  for (char& c : id) {
    if (!IsModelIdChar(c)) c = '-';
  }
  if (id.empty()) id = "model";
  return id.substr(0, kModelIdBytesMax);
}

}  // namespace mambad
