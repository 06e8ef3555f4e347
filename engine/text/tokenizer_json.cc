#include "engine/text/tokenizer_json.h"

#include <algorithm>
#include <string_view>
#include <utility>

#include "absl/container/flat_hash_set.h"
#include "absl/strings/str_cat.h"
#include "engine/text/bpe_json.h"
#include "engine/text/json_node.h"
#include "engine/text/post_processor_json.h"
#include "engine/text/pre_tokenizer_json.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

// Whether the normalizer is NFC; the only other one is none.
absl::StatusOr<bool> ReadNormalizer(const JsonNode& node) {
  if (node.is_null()) return false;
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode type_node, node.Member("type"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view type, type_node.String());
  if (type == "NFC") {
    MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type"}));
    return true;
  }
  if (type != "Sequence")
    return type_node.Error(absl::StrCat("unsupported normalizer ", QuoteForMessage(type)));
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "normalizers"}));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode list, node.Member("normalizers"));
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
  bool nfc = false;
  for (const JsonNode& element : elements) {
    MAMBAD_ASSIGN_OR_RETURN(const bool element_nfc, ReadNormalizer(element));
    nfc |= element_nfc;
  }
  return nfc;
}

absl::Status CheckDecoder(const JsonNode& node) {
  if (node.is_null()) return node.Error("must be ByteLevel");
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode type_node, node.Member("type"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view type, type_node.String());
  if (type != "ByteLevel")
    return type_node.Error(absl::StrCat("unsupported decoder ", QuoteForMessage(type)));
  return ReadByteLevel(node).status();
}

absl::StatusOr<AddedToken> ReadAddedToken(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(
      node.ExpectKeys({"id", "content", "single_word", "lstrip", "rstrip", "normalized", "special"}));
  AddedToken token;
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode id, node.Member("id"));
  MAMBAD_ASSIGN_OR_RETURN(token.id, id.Uint(kMaxVocabulary + kMaxAddedTokens));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode content, node.Member("content"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view text, content.String());
  if (text.empty() || text.size() > AddedTokenMatcher::kMaxContentBytes) {
    return content.Error(absl::StrCat("must have 1 to ", AddedTokenMatcher::kMaxContentBytes, " bytes"));
  }
  token.content = text;
  MAMBAD_ASSIGN_OR_RETURN(token.single_word, node.BoolMember("single_word"));
  MAMBAD_ASSIGN_OR_RETURN(token.lstrip, node.BoolMember("lstrip"));
  MAMBAD_ASSIGN_OR_RETURN(token.rstrip, node.BoolMember("rstrip"));
  MAMBAD_ASSIGN_OR_RETURN(token.normalized, node.BoolMember("normalized"));
  MAMBAD_ASSIGN_OR_RETURN(token.special, node.BoolMember("special"));
  return token;
}

// Hugging Face does not read the ids: a token of the vocabulary keeps its id there, and the others follow the
// vocabulary in the order of the file. A file whose ids say something else is refused.
absl::StatusOr<std::vector<AddedToken>> ReadAddedTokens(
    const JsonNode& node, const absl::flat_hash_map<std::string, uint32_t>& vocabulary) {
  std::vector<AddedToken> tokens;
  if (node.is_null()) return tokens;
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, node.Elements());
  if (elements.size() > kMaxAddedTokens)
    return node.Error(absl::StrCat("must have at most ", kMaxAddedTokens));
  absl::flat_hash_set<std::string> contents;
  uint32_t next_id = static_cast<uint32_t>(vocabulary.size());
  for (const JsonNode& element : elements) {
    MAMBAD_ASSIGN_OR_RETURN(AddedToken token, ReadAddedToken(element));
    if (!contents.insert(token.content).second)
      return element.Error("another added token has the same content");
    const auto found = vocabulary.find(token.content);
    const uint32_t id = found != vocabulary.end() ? found->second : next_id++;
    if (token.id != id) return element.Error(absl::StrCat("id must be ", id, ", not ", token.id));
    tokens.push_back(std::move(token));
  }
  return tokens;
}

absl::Status ExpectNull(const JsonNode& root, std::string_view key) {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode member, root.MemberOrNull(key));
  return member.is_null() ? absl::OkStatus() : member.Error("is not supported, must be null");
}

absl::Status CheckVersion(const JsonNode& root) {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode version, root.MemberOrNull("version"));
  if (version.is_null()) return absl::OkStatus();
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view text, version.String());
  return text == "1.0" ? absl::OkStatus() : version.Error("must be \"1.0\"");
}

}  // namespace

absl::StatusOr<TokenizerSpec> ReadTokenizerJson(std::string_view json, std::string_view file) {
  if (json.size() > kMaxTokenizerBytes) {
    return absl::InvalidArgumentError(
        absl::StrCat(std::string(file), ": is larger than ", kMaxTokenizerBytes >> 20, " MiB"));
  }
  MAMBAD_ASSIGN_OR_RETURN(const nlohmann::json document, ParseJson(json, file));
  const JsonNode root(&document, "", file);
  MAMBAD_RETURN_IF_ERROR(root.ExpectKeys({"version", "truncation", "padding", "added_tokens", "normalizer",
                                          "pre_tokenizer", "post_processor", "decoder", "model"}));
  MAMBAD_RETURN_IF_ERROR(CheckVersion(root));
  MAMBAD_RETURN_IF_ERROR(ExpectNull(root, "truncation"));
  MAMBAD_RETURN_IF_ERROR(ExpectNull(root, "padding"));
  TokenizerSpec spec;
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode normalizer, root.MemberOrNull("normalizer"));
  MAMBAD_ASSIGN_OR_RETURN(spec.nfc, ReadNormalizer(normalizer));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode pre_tokenizer, root.MemberOrNull("pre_tokenizer"));
  MAMBAD_ASSIGN_OR_RETURN(spec.pre_tokenizer, ReadPreTokenizer(pre_tokenizer));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode decoder, root.MemberOrNull("decoder"));
  MAMBAD_RETURN_IF_ERROR(CheckDecoder(decoder));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode model, root.Member("model"));
  MAMBAD_ASSIGN_OR_RETURN(spec.bpe, ReadBpe(model));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode added_tokens, root.MemberOrNull("added_tokens"));
  MAMBAD_ASSIGN_OR_RETURN(spec.added_tokens, ReadAddedTokens(added_tokens, spec.bpe.vocabulary));
  uint32_t vocab_size = static_cast<uint32_t>(spec.bpe.vocabulary.size());
  for (const AddedToken& token : spec.added_tokens) vocab_size = std::max(vocab_size, token.id + 1);
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode post_processor, root.MemberOrNull("post_processor"));
  MAMBAD_ASSIGN_OR_RETURN(const PostProcessor around, ReadPostProcessor(post_processor, vocab_size));
  spec.prefix = around.prefix;
  spec.suffix = around.suffix;
  return spec;
}

}  // namespace mambad
