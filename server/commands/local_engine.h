// A model and an engine that this thread ticks by hand, for the local commands.
//
// Threads: one thread.
#ifndef MAMBAD_SERVER_COMMANDS_LOCAL_ENGINE_H_
#define MAMBAD_SERVER_COMMANDS_LOCAL_ENGINE_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "engine/token_event.h"
#include "server/loading.h"
#include "server/options.h"

namespace mambad {

class LocalEngine {
 public:
  // Loads the model and makes an engine of `slots` slots whose prompts are bounded by memory alone.
  static absl::StatusOr<std::unique_ptr<LocalEngine>> Create(const ModelOptions& options, uint32_t slots);

  Engine& engine() { return *engine_; }
  const Tokenizer* tokenizer() const { return engine_->tokenizer(); }
  const GenerationDefaults& defaults() const { return defaults_; }

  // Submits and ticks until the End event; gives its status. `on_event` gets every event; `on_tick`, after
  // each tick and its events, the tick's report and the seconds since the call before, the first one's since
  // Submit. Either may be empty.
  absl::Status Run(GenerationRequest request, const std::function<void(const TokenEvent&)>& on_event,
                   const std::function<void(const TickReport&, double seconds)>& on_tick);

 private:
  LocalEngine() = default;

  GenerationDefaults defaults_;
  std::unique_ptr<Engine> engine_;
};

// Token ids from a flag: "1,2,3", or "@FILE" with ids apart by commas or white space; none may be missing
// beside a comma.
absl::StatusOr<std::vector<uint32_t>> ParseTokens(const std::string& flag);

// Ids of a text as the model reads it at position 0. FAILED_PRECONDITION without a tokenizer.
absl::StatusOr<std::vector<uint32_t>> EncodeText(const Tokenizer* tokenizer, const std::string& text);

}  // namespace mambad

#endif  // MAMBAD_SERVER_COMMANDS_LOCAL_ENGINE_H_
