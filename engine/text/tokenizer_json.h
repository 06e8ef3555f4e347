// Reads tokenizer.json into the parts of a tokenizer, and refuses what they would not reproduce.
#ifndef MAMBAD_ENGINE_TEXT_TOKENIZER_JSON_H_
#define MAMBAD_ENGINE_TEXT_TOKENIZER_JSON_H_

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "absl/container/flat_hash_map.h"
#include "absl/status/statusor.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/pre_tokenizer.h"

namespace mambad {

inline constexpr size_t kMaxTokenizerBytes = size_t{64} << 20;
inline constexpr size_t kMaxVocabulary = size_t{1} << 22;  // also the most merges
inline constexpr size_t kMaxAddedTokens = size_t{1} << 16;

struct BpeSpec {
  absl::flat_hash_map<std::string, uint32_t> vocabulary;  // ids 0 to size - 1, each once
  std::vector<Bpe::Merge> merges;                         // by rank
  bool ignore_merges = false;
};

struct TokenizerSpec {
  bool nfc = false;
  std::vector<AddedToken> added_tokens;  // ids agree with the vocabulary, or follow it in order
  std::vector<PreTokenizerStep> pre_tokenizer;
  std::vector<uint32_t> prefix, suffix;  // what the post-processor puts around the ids
  BpeSpec bpe;
};

// INVALID_ARGUMENT "FILE: KEY: what is wrong", in one line.
absl::StatusOr<TokenizerSpec> ReadTokenizerJson(std::string_view json, std::string_view file);

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_TOKENIZER_JSON_H_
