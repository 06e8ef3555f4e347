#include "engine/text/bpe_json.h"

#include <algorithm>
#include <string>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/utf8.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

using Vocabulary = absl::flat_hash_map<std::string, uint32_t>;

absl::StatusOr<Vocabulary> ReadVocabulary(const JsonNode& node) {
  const nlohmann::json& tokens = node.value();
  if (!tokens.is_object()) return node.Error("must be an object");
  if (tokens.empty() || tokens.size() > kMaxVocabulary) {
    return node.Error(absl::StrCat("must have 1 to ", kMaxVocabulary, " tokens"));
  }
  Vocabulary vocabulary;
  vocabulary.reserve(tokens.size());
  std::vector<bool> taken(tokens.size(), false);
  for (const auto& token : tokens.items()) {
    const JsonNode id_node = node.Entry(token.key(), token.value());
    MAMBAD_ASSIGN_OR_RETURN(const uint32_t id, id_node.Uint(kMaxVocabulary - 1));
    if (id < taken.size()) {
      if (taken[id]) return id_node.Error(absl::StrCat("another token has the id ", id, " as well"));
      taken[id] = true;
    }
    vocabulary.emplace(token.key(), id);
  }
  const auto hole = std::find(taken.begin(), taken.end(), false);
  if (hole != taken.end()) {
    return node.Error(absl::StrCat("the ids of ", taken.size(), " tokens must be 0 to ", taken.size() - 1,
                                   ", but no token has the id ", hole - taken.begin()));
  }
  return vocabulary;
}

// "left right" or ["left", "right"].
absl::StatusOr<std::pair<std::string_view, std::string_view>> ReadPair(const JsonNode& merge) {
  if (merge.value().is_array()) {
    MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> parts, merge.Elements());
    if (parts.size() != 2) return merge.Error("must have two tokens");
    MAMBAD_ASSIGN_OR_RETURN(const std::string_view left, parts[0].String());
    MAMBAD_ASSIGN_OR_RETURN(const std::string_view right, parts[1].String());
    return std::pair(left, right);
  }
  if (!merge.value().is_string()) return merge.Error("must be a string or an array of two");
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view line, merge.String());
  const size_t space = line.find(' ');
  if (space == std::string_view::npos || line.find(' ', space + 1) != std::string_view::npos) {
    return merge.Error("must be two tokens with one space between them");
  }
  return std::pair(line.substr(0, space), line.substr(space + 1));
}

// A header line that some files carry; Hugging Face skips every line that begins so.
bool IsVersionLine(const nlohmann::json& merge) {
  return merge.is_string() && merge.get_ref<const std::string&>().rfind("#version", 0) == 0;
}

absl::StatusOr<std::vector<Bpe::Merge>> ReadMerges(const JsonNode& node, const Vocabulary& vocabulary) {
  MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, node.Elements());
  if (elements.size() > kMaxVocabulary) return node.Error(absl::StrCat("must have at most ", kMaxVocabulary));
  std::vector<Bpe::Merge> merges;
  merges.reserve(elements.size());
  for (const JsonNode& element : elements) {
    if (IsVersionLine(element.value())) continue;
    MAMBAD_ASSIGN_OR_RETURN(const auto pair, ReadPair(element));
    const std::string left(pair.first), right(pair.second);
    uint32_t ids[3];
    const std::string tokens[3] = {left, right, left + right};
    for (int i = 0; i < 3; ++i) {
      const auto found = vocabulary.find(tokens[i]);
      if (found == vocabulary.end()) {
        return element.Error(absl::StrCat(i == 2 ? "its result " : "", QuoteForMessage(tokens[i]),
                                          " is no token of model.vocab"));
      }
      ids[i] = found->second;
    }
    merges.push_back({ids[0], ids[1], ids[2]});
  }
  return merges;
}

bool OccursInUtf8(int byte) { return byte != 0xC0 && byte != 0xC1 && byte < 0xF5; }

// An unk_token does nothing when every byte has a token.
absl::Status CheckUnknown(const JsonNode& unk_token, const Vocabulary& vocabulary) {
  if (unk_token.is_null()) return absl::OkStatus();
  MAMBAD_RETURN_IF_ERROR(unk_token.String().status());
  for (int byte = 0; byte < 256; ++byte) {
    std::string letter;
    AppendUtf8(LetterOfByte(static_cast<uint8_t>(byte)), &letter);
    if (OccursInUtf8(byte) && !vocabulary.contains(letter)) {
      return unk_token.Error(absl::StrFormat(
          "is not supported where it would be used: model.vocab has no token for the byte 0x%02X", byte));
    }
  }
  return absl::OkStatus();
}

absl::Status CheckUnsupported(const JsonNode& model) {
  for (const std::string_view key : {"continuing_subword_prefix", "end_of_word_suffix"}) {
    MAMBAD_ASSIGN_OR_RETURN(const JsonNode affix, model.MemberOrNull(key));
    if (affix.is_null()) continue;
    MAMBAD_ASSIGN_OR_RETURN(const std::string_view text, affix.String());
    if (!text.empty()) return affix.Error("is not supported");
  }
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode dropout, model.MemberOrNull("dropout"));
  if (!dropout.is_null() && !(dropout.value().is_number() && dropout.value().get<double>() == 0.0)) {
    return dropout.Error("is not supported");
  }
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode byte_fallback, model.MemberOrNull("byte_fallback"));
  if (!byte_fallback.is_null()) {
    MAMBAD_ASSIGN_OR_RETURN(const bool used, byte_fallback.Bool());
    if (used) return byte_fallback.Error("is not supported");
  }
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode fuse_unk, model.MemberOrNull("fuse_unk"));
  return fuse_unk.is_null() ? absl::OkStatus() : fuse_unk.Bool().status();
}

}  // namespace

absl::StatusOr<BpeSpec> ReadBpe(const JsonNode& model) {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode type, model.Member("type"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view name, type.String());
  if (name != "BPE") return type.Error(absl::StrCat("must be \"BPE\", not ", QuoteForMessage(name)));
  MAMBAD_RETURN_IF_ERROR(
      model.ExpectKeys({"type", "dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix",
                        "fuse_unk", "byte_fallback", "ignore_merges", "vocab", "merges"}));
  MAMBAD_RETURN_IF_ERROR(CheckUnsupported(model));
  BpeSpec spec;
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode ignore_merges, model.MemberOrNull("ignore_merges"));
  if (!ignore_merges.is_null()) {
    MAMBAD_ASSIGN_OR_RETURN(spec.ignore_merges, ignore_merges.Bool());
  }
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode vocab, model.Member("vocab"));
  MAMBAD_ASSIGN_OR_RETURN(spec.vocabulary, ReadVocabulary(vocab));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode merges, model.Member("merges"));
  MAMBAD_ASSIGN_OR_RETURN(spec.merges, ReadMerges(merges, spec.vocabulary));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode unk_token, model.MemberOrNull("unk_token"));
  MAMBAD_RETURN_IF_ERROR(CheckUnknown(unk_token, spec.vocabulary));
  return spec;
}

}  // namespace mambad
