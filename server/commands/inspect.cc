// mambad inspect: what a model folder holds and what serving it takes.
#include <cstdio>
#include <memory>
#include <string>

#include "engine/device_info.h"
#include "engine/session/state_pool.h"
#include "kernels/base/status_macros.h"
#include "nlohmann/json.hpp"
#include "server/commands/commands.h"
#include "server/exit_code.h"
#include "server/loading.h"

namespace mambad {
namespace {

struct InspectOptions {
  ModelOptions model;
  uint64_t state_memory = uint64_t{1} << 30;
  bool json = false;
};

nlohmann::ordered_json Describe(const ModelAndText& loaded, const InspectOptions& options) {
  const ModelInfo& info = loaded.model->info();
  const uint64_t state_bytes = loaded.model->state_layout().bytes;
  return {{"model", options.model.model},
          {"config",
           {{"model_type", info.model_type},
            {"vocab_size", info.vocab_size},
            {"d_model", info.d_model},
            {"d_inner", info.d_inner},
            {"d_state", info.d_state},
            {"d_conv", info.d_conv},
            {"dt_rank", info.dt_rank},
            {"n_layer", info.n_layer},
            {"eos_token_ids", info.eos_token_ids}}},
          {"has_tokenizer", loaded.tokenizer != nullptr},
          {"parameters", info.parameters},
          {"precision", info.precision},
          {"state_dtype", info.state_dtype},
          {"weight_bytes", info.weight_bytes},
          {"workspace_bytes", info.workspace_bytes},
          {"state_bytes", state_bytes},
          {"state_memory_bytes", options.state_memory},
          {"slots", StatePool::SlotsThatFit(loaded.model->state_layout(), options.state_memory)},
          {"device", DescribeDevice(*loaded.model).kind},
          {"numerics_id", info.numerics_id},
          {"digest", info.digest}};
}

void PrintForPeople(const nlohmann::ordered_json& description, const std::string& indent) {
  for (const auto& [key, value] : description.items()) {
    if (value.is_object()) {
      std::printf("%s%s\n", indent.c_str(), key.c_str());
      PrintForPeople(value, indent + "  ");
    } else {
      const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
      std::printf("%s%-20s %s\n", indent.c_str(), key.c_str(), text.c_str());
    }
  }
}

absl::Status Inspect(const InspectOptions& options) {
  const auto log = [](const std::string& line) { std::fprintf(stderr, "%s\n", line.c_str()); };
  MAMBAD_ASSIGN_OR_RETURN(const ModelAndText loaded, Load(options.model, ForwardLimits(), log));
  const nlohmann::ordered_json description = Describe(loaded, options);
  if (options.json) {
    std::printf("%s\n", description.dump().c_str());
  } else {
    PrintForPeople(description, "");
  }
  return absl::OkStatus();
}

}  // namespace

Command AddInspect(CLI::App* app) {
  const auto options = std::make_shared<InspectOptions>();
  CLI::App* inspect = app->add_subcommand("inspect", "What a model folder holds, and what serving it takes");
  AddModelOptions(inspect, &options->model);
  AddBytes(inspect, "--state-memory", &options->state_memory, "Memory that the states may take");
  inspect->add_flag("--json", options->json, "Print one JSON object");
  return {.app = inspect, .run = [options] {
            const absl::Status status = Inspect(*options);
            return status.ok() ? kExitOk : FailWith(status);
          }};
}

}  // namespace mambad
