// The `pre_tokenizer` of tokenizer.json.
#ifndef MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_JSON_H_
#define MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_JSON_H_

#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "engine/text/json_node.h"
#include "engine/text/pre_tokenizer.h"

namespace mambad {

// Sequences are flattened. At least one step is ByteLevel: without it a word would not be in the byte
// alphabet.
absl::StatusOr<std::vector<PreTokenizerStep>> ReadPreTokenizer(const JsonNode& node);

// The settings of a ByteLevel, which pre-tokenizer, post-processor and decoder spell alike.
absl::StatusOr<ByteLevelStep> ReadByteLevel(const JsonNode& node);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_PRE_TOKENIZER_JSON_H_
