#include "engine/text/post_processor_json.h"

#include <string_view>

#include "absl/strings/str_cat.h"
#include "engine/text/pre_tokenizer_json.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr size_t kMaxTemplateIds = 256;

absl::StatusOr<std::vector<uint32_t>> ReadSpecialToken(const JsonNode& piece, const JsonNode& special_tokens,
                                                       uint32_t vocab_size) {
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view name, piece.StringMember("id"));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode token, special_tokens.Member(name));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode list, token.Member("ids"));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
  if (elements.size() > kMaxTemplateIds)
    return list.Error(absl::StrCat("has more than ", kMaxTemplateIds, " ids"));
  std::vector<uint32_t> ids;
  for (const JsonNode& element : elements) {
    MAMBAD_ASSIGN_OR_RETURN(const uint32_t id, element.Uint(vocab_size - 1));
    ids.push_back(id);
  }
  return ids;
}

absl::StatusOr<PostProcessor> ReadTemplate(const JsonNode& node, uint32_t vocab_size) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "single", "pair", "special_tokens"}));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode single, node.Member("single"));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode special_tokens, node.Member("special_tokens"));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> pieces, single.Elements());
  PostProcessor result;
  bool text_seen = false;
  for (const JsonNode& piece : pieces) {
    MAMBAD_RETURN_IF_ERROR(piece.ExpectKeys({"Sequence", "SpecialToken"}));
    if (piece.value().size() != 1) return piece.Error("must have one key, Sequence or SpecialToken");
    if (piece.value().contains("Sequence")) {
      MAMBAD_ASSIGN_OR_RETURN(const JsonNode sequence, piece.Member("Sequence"));
      MAMBAD_ASSIGN_OR_RETURN(const std::string_view id, sequence.StringMember("id"));
      if (id != "A" || text_seen) return sequence.Error("must be \"A\", and once");
      text_seen = true;
      continue;
    }
    MAMBAD_ASSIGN_OR_RETURN(const JsonNode special, piece.Member("SpecialToken"));
    MAMBAD_ASSIGN_OR_RETURN(const std::vector<uint32_t> ids,
                            ReadSpecialToken(special, special_tokens, vocab_size));
    std::vector<uint32_t>& side = text_seen ? result.suffix : result.prefix;
    side.insert(side.end(), ids.begin(), ids.end());
    if (side.size() > kMaxTemplateIds)
      return single.Error(absl::StrCat("adds more than ", kMaxTemplateIds, " ids"));
  }
  if (!text_seen) return single.Error("has no Sequence \"A\"");
  return result;
}

}  // namespace

absl::StatusOr<PostProcessor> ReadPostProcessor(const JsonNode& node, uint32_t vocab_size) {
  PostProcessor result;
  if (node.is_null()) return result;
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode type_node, node.Member("type"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view type, type_node.String());
  if (type == "ByteLevel") {
    MAMBAD_RETURN_IF_ERROR(ReadByteLevel(node).status());
    return result;
  }
  if (type == "TemplateProcessing") return ReadTemplate(node, vocab_size);
  if (type != "Sequence") {
    return type_node.Error(absl::StrCat("unsupported post-processor ", QuoteForMessage(type)));
  }
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "processors"}));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode list, node.Member("processors"));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
  for (const JsonNode& element : elements) {
    MAMBAD_ASSIGN_OR_RETURN(const PostProcessor next, ReadPostProcessor(element, vocab_size));
    if (next.prefix.empty() && next.suffix.empty()) continue;
    if (!result.prefix.empty() || !result.suffix.empty()) return element.Error("is a second template");
    result = next;
  }
  return result;
}

}  // namespace mambad
