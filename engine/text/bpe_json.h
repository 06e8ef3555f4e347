// The `model` of tokenizer.json.
#ifndef MAMBAD_ENGINE_TEXT_BPE_JSON_H_
#define MAMBAD_ENGINE_TEXT_BPE_JSON_H_

#include "absl/status/statusor.h"
#include "engine/text/json_node.h"
#include "engine/text/tokenizer_json.h"

namespace mambad {

absl::StatusOr<BpeSpec> ReadBpe(const JsonNode& model);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_BPE_JSON_H_
