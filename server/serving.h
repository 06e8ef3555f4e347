// Serving: the model that the server answers with, once it is loaded: engine, tokenizer, defaults.
//
// Threads: immutable but for the engine, which has its own contract.
#ifndef MAMBAD_SERVER_SERVING_H_
#define MAMBAD_SERVER_SERVING_H_

#include <memory>
#include <string>

#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/generation_config.h"
#include "engine/text/tokenizer.h"

namespace mambad {

struct Serving {
  std::string model_id;
  GenerationDefaults defaults;
  // Whether the tokenizer's template adds anything at position 0.
  bool adds_special_tokens = false;
  std::unique_ptr<Engine> engine;

  const Tokenizer* tokenizer() const { return engine->tokenizer(); }
  std::string model_name() const { return "models/" + model_id; }
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_SERVING_H_
