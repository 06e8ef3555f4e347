// The `post_processor` of tokenizer.json.
#ifndef MAMBAD_ENGINE_TEXT_POST_PROCESSOR_JSON_H_
#define MAMBAD_ENGINE_TEXT_POST_PROCESSOR_JSON_H_

#include <cstdint>
#include <vector>

#include "absl/status/statusor.h"
#include "engine/text/json_node.h"

namespace mambad {

// What is put around the ids of a text.
struct PostProcessor {
  std::vector<uint32_t> prefix, suffix;
};

// null, ByteLevel (which concerns offsets only), TemplateProcessing (its `single` template), or a Sequence of
// them. Every id is below `vocab_size`.
absl::StatusOr<PostProcessor> ReadPostProcessor(const JsonNode& node, uint32_t vocab_size);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_POST_PROCESSOR_JSON_H_
