#include "engine/text/pre_tokenizer_json.h"

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>

#include "absl/strings/str_cat.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

constexpr size_t kMaxSteps = 32;

absl::StatusOr<SplitBehavior> ReadBehavior(const JsonNode& node) {
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view name, node.String());
  if (name == "Removed") return SplitBehavior::kRemoved;
  if (name == "Isolated") return SplitBehavior::kIsolated;
  if (name == "MergedWithPrevious") return SplitBehavior::kMergedWithPrevious;
  if (name == "MergedWithNext") return SplitBehavior::kMergedWithNext;
  if (name == "Contiguous") return SplitBehavior::kContiguous;
  return node.Error(absl::StrCat("unknown behavior ", QuoteForMessage(name)));
}

absl::StatusOr<SplitPattern> ReadPattern(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"Regex", "String"}));
  if (node.value().size() != 1) return node.Error("must have one key, Regex or String");
  const std::string key = node.value().begin().key();
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Member(key));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view pattern, pattern_node.String());
  absl::StatusOr<SplitPattern> compiled =
      key == "Regex" ? SplitPattern::Regex(pattern) : SplitPattern::Literal(pattern);
  if (!compiled.ok()) return pattern_node.Error(absl::StrCat(compiled.status().message()));
  return compiled;
}

absl::StatusOr<SplitStep> ReadSplit(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "pattern", "behavior", "invert"}));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode pattern_node, node.Member("pattern"));
  MAMBAD_ASSIGN_OR_RETURN(SplitPattern pattern, ReadPattern(pattern_node));
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode behavior_node, node.Member("behavior"));
  MAMBAD_ASSIGN_OR_RETURN(const SplitBehavior behavior, ReadBehavior(behavior_node));
  MAMBAD_ASSIGN_OR_RETURN(const bool invert, node.BoolMember("invert"));
  return SplitStep{std::move(pattern), behavior, invert};
}

absl::StatusOr<PunctuationStep> ReadPunctuation(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "behavior"}));
  PunctuationStep step;
  if (node.value().contains("behavior")) {
    MAMBAD_ASSIGN_OR_RETURN(const JsonNode behavior_node, node.Member("behavior"));
    MAMBAD_ASSIGN_OR_RETURN(step.behavior, ReadBehavior(behavior_node));
  }
  return step;
}

absl::StatusOr<DigitsStep> ReadDigits(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "individual_digits"}));
  DigitsStep step;
  MAMBAD_ASSIGN_OR_RETURN(step.individual_digits, node.BoolMember("individual_digits"));
  return step;
}

// Nesting is bounded by the JSON depth.
absl::Status AppendSteps(const JsonNode& node, std::vector<PreTokenizerStep>* steps) {
  MAMBAD_ASSIGN_OR_RETURN(const JsonNode type_node, node.Member("type"));
  MAMBAD_ASSIGN_OR_RETURN(const std::string_view type, type_node.String());
  if (type == "Sequence") {
    MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "pretokenizers"}));
    MAMBAD_ASSIGN_OR_RETURN(const JsonNode list, node.Member("pretokenizers"));
    MAMBAD_ASSIGN_OR_RETURN(const std::vector<JsonNode> elements, list.Elements());
    for (const JsonNode& element : elements) MAMBAD_RETURN_IF_ERROR(AppendSteps(element, steps));
    return absl::OkStatus();
  }
  if (steps->size() >= kMaxSteps) return node.Error(absl::StrCat("has more than ", kMaxSteps, " steps"));
  if (type == "ByteLevel") {
    MAMBAD_ASSIGN_OR_RETURN(const ByteLevelStep step, ReadByteLevel(node));
    steps->push_back(step);
  } else if (type == "Digits") {
    MAMBAD_ASSIGN_OR_RETURN(const DigitsStep step, ReadDigits(node));
    steps->push_back(step);
  } else if (type == "Punctuation") {
    MAMBAD_ASSIGN_OR_RETURN(const PunctuationStep step, ReadPunctuation(node));
    steps->push_back(step);
  } else if (type == "Split") {
    MAMBAD_ASSIGN_OR_RETURN(SplitStep step, ReadSplit(node));
    steps->push_back(std::move(step));
  } else {
    return type_node.Error(absl::StrCat("unsupported pre-tokenizer ", QuoteForMessage(type)));
  }
  return absl::OkStatus();
}

}  // namespace

absl::StatusOr<ByteLevelStep> ReadByteLevel(const JsonNode& node) {
  MAMBAD_RETURN_IF_ERROR(node.ExpectKeys({"type", "add_prefix_space", "trim_offsets", "use_regex"}));
  ByteLevelStep step;
  MAMBAD_ASSIGN_OR_RETURN(step.add_prefix_space, node.BoolMember("add_prefix_space"));
  MAMBAD_RETURN_IF_ERROR(
      node.BoolMember("trim_offsets").status());  // concerns offsets, which nothing here reports
  MAMBAD_ASSIGN_OR_RETURN(step.use_regex, node.BoolMemberOr("use_regex", true));
  return step;
}

absl::StatusOr<std::vector<PreTokenizerStep>> ReadPreTokenizer(const JsonNode& node) {
  std::vector<PreTokenizerStep> steps;
  if (!node.is_null()) MAMBAD_RETURN_IF_ERROR(AppendSteps(node, &steps));
  const bool has_byte_level = std::any_of(steps.begin(), steps.end(), [](const PreTokenizerStep& step) {
    return std::holds_alternative<ByteLevelStep>(step);
  });
  if (!has_byte_level) return node.Error("has no ByteLevel; only byte-level BPE is supported");
  return steps;
}

}  // namespace mambad
