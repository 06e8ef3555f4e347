// From flags to a model and its tokenizer, for `serve` and for every command that runs a model.
//
// Errors: one line, as LoadModel and Tokenizer::Load give it. Threads: one call at a time.
#ifndef MAMBAD_SERVER_LOADING_H_
#define MAMBAD_SERVER_LOADING_H_

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "engine/model/generation_config.h"
#include "engine/model/model.h"
#include "engine/text/tokenizer.h"
#include "server/options.h"

namespace mambad {

struct ModelAndText {
  std::shared_ptr<Model> model;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: token ids only
  GenerationDefaults defaults;
};

// `log` gets what is odd but no error. Progress goes to stderr: a moving line on a terminal, otherwise
// nothing.
absl::StatusOr<ModelAndText> Load(const ModelOptions& options, const ForwardLimits& limits,
                                  std::function<void(const std::string& line)> log);

// The tokenizer of a folder that may hold nothing else.
absl::StatusOr<std::shared_ptr<const Tokenizer>> LoadTokenizer(const std::string& folder);

}  // namespace mambad

#endif  // MAMBAD_SERVER_LOADING_H_
