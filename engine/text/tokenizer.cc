#include "engine/text/tokenizer.h"

#include <algorithm>
#include <optional>
#include <utility>

#define XXH_INLINE_ALL
#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "engine/json_file.h"
#include "engine/text/added_tokens.h"
#include "engine/text/bpe.h"
#include "engine/text/byte_alphabet.h"
#include "engine/text/json_node.h"
#include "engine/text/normalizer.h"
#include "engine/text/pre_tokenizer.h"
#include "engine/text/tokenizer_json.h"
#include "engine/text/utf8.h"
#include "kernels/base/status_macros.h"
#include "xxhash.h"

namespace mambad {
namespace {

std::string Digest(std::string_view content) {
  const XXH128_hash_t hash = XXH3_128bits(content.data(), content.size());
  return absl::StrFormat("%016x%016x", hash.high64, hash.low64);
}

struct Token {
  std::string name, bytes;
  bool special = false;
};

// As Hugging Face decodes: a token spelled in the byte alphabet alone stands for those bytes, any other for
// itself. That holds for added tokens too.
std::string DecodedBytes(std::string_view name) {
  std::optional<std::string> bytes = BytesOfLetters(name);
  return bytes ? *std::move(bytes) : std::string(name);
}

}  // namespace

struct Tokenizer::Parts {
  bool nfc;
  AddedTokenMatcher raw_tokens, normalized_tokens;  // looked for before and after normalization
  PreTokenizer pre_tokenizer;
  Bpe bpe;
  std::vector<uint32_t> prefix, suffix;
  std::vector<Token> tokens;  // by id
  absl::flat_hash_map<std::string, uint32_t> added_ids;
  std::vector<uint32_t> special_ids;
  std::string digest;

  // All but the added tokens.
  Parts(TokenizerSpec spec, std::string_view content);
  absl::Status AddTokens(const std::vector<AddedToken>& added_tokens, std::string_view file);

  // Ids of a text without raw tokens.
  absl::Status EncodePiece(std::string_view text, Bpe::Scratch* scratch, std::vector<uint32_t>* ids) const;
};

Tokenizer::Parts::Parts(TokenizerSpec spec, std::string_view content)
    : nfc(spec.nfc),
      pre_tokenizer(std::move(spec.pre_tokenizer)),
      bpe(std::move(spec.bpe.vocabulary), spec.bpe.merges, spec.bpe.ignore_merges),
      prefix(std::move(spec.prefix)),
      suffix(std::move(spec.suffix)),
      digest(Digest(content)) {
  tokens.resize(bpe.vocabulary().size());
  for (const auto& [name, id] : bpe.vocabulary()) tokens[id] = {name, DecodedBytes(name), false};
}

absl::Status Tokenizer::Parts::AddTokens(const std::vector<AddedToken>& added_tokens, std::string_view file) {
  for (size_t i = 0; i < added_tokens.size(); ++i) {
    const AddedToken& token = added_tokens[i];
    const std::string content = token.normalized && nfc ? NormalizeNfc(token.content) : token.content;
    if (!(token.normalized ? normalized_tokens : raw_tokens).Add(token, content)) {
      return absl::InvalidArgumentError(absl::StrCat(
          std::string(file), ": added_tokens[", i, "]: another added token has the same normalized content"));
    }
    if (token.id >= tokens.size()) tokens.resize(token.id + 1);
    tokens[token.id] = {token.content, DecodedBytes(content), token.special};
    added_ids.emplace(token.content, token.id);
    if (token.special) special_ids.push_back(token.id);
  }
  std::sort(special_ids.begin(), special_ids.end());
  return absl::OkStatus();
}

Tokenizer::Tokenizer(std::unique_ptr<const Parts> parts) : parts_(std::move(parts)) {}
Tokenizer::~Tokenizer() = default;

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Load(const std::string& path) {
  MAMBAD_ASSIGN_OR_RETURN(const std::string content, ReadFile(path, kMaxTokenizerBytes));
  return Parse(content, path);
}

absl::StatusOr<std::unique_ptr<const Tokenizer>> Tokenizer::Parse(std::string_view json,
                                                                  std::string_view name) {
  MAMBAD_ASSIGN_OR_RETURN(TokenizerSpec spec, ReadTokenizerJson(json, name));
  const std::vector<AddedToken> added_tokens = std::move(spec.added_tokens);
  auto parts = std::make_unique<Parts>(std::move(spec), json);
  MAMBAD_RETURN_IF_ERROR(parts->AddTokens(added_tokens, name));
  return std::unique_ptr<const Tokenizer>(new Tokenizer(std::move(parts)));
}

absl::Status Tokenizer::Parts::EncodePiece(std::string_view text, Bpe::Scratch* scratch,
                                           std::vector<uint32_t>* ids) const {
  const std::string normalized = nfc ? NormalizeNfc(text) : std::string();
  Words words;
  for (const AddedTokenMatcher::Piece& piece : normalized_tokens.Split(nfc ? normalized : text)) {
    if (piece.is_token) {
      ids->push_back(piece.id);
      continue;
    }
    MAMBAD_RETURN_IF_ERROR(pre_tokenizer.Run(piece.text, &words));
    for (size_t i = 0; i < words.size(); ++i) bpe.Encode(words[i], scratch, ids);
  }
  return absl::OkStatus();
}

absl::StatusOr<std::vector<uint32_t>> Tokenizer::Encode(std::string_view text, EncodeOptions options) const {
  if (text.size() > kMaxTextBytes) {
    return absl::InvalidArgumentError(absl::StrCat("the text is longer than ", kMaxTextBytes, " bytes"));
  }
  if (!IsValidUtf8(text)) return absl::InvalidArgumentError("the text is not valid UTF-8");
  std::vector<uint32_t> ids;
  if (options.add_special_tokens) ids = parts_->prefix;
  Bpe::Scratch scratch;
  for (const AddedTokenMatcher::Piece& piece : parts_->raw_tokens.Split(text)) {
    if (piece.is_token) {
      ids.push_back(piece.id);
    } else {
      MAMBAD_RETURN_IF_ERROR(parts_->EncodePiece(piece.text, &scratch, &ids));
    }
  }
  if (options.add_special_tokens) ids.insert(ids.end(), parts_->suffix.begin(), parts_->suffix.end());
  return ids;
}

std::string Tokenizer::Decode(std::span<const uint32_t> ids, bool skip_special) const {
  std::string text;
  Utf8StreamDecoder decoder;
  for (const uint32_t id : ids) {
    if (skip_special && IsSpecial(id)) continue;
    decoder.Append(TokenBytes(id), &text);
  }
  decoder.Finish(&text);
  return text;
}

std::string_view Tokenizer::TokenBytes(uint32_t id) const {
  return id < parts_->tokens.size() ? std::string_view(parts_->tokens[id].bytes) : std::string_view();
}

std::string_view Tokenizer::TokenName(uint32_t id) const {
  return id < parts_->tokens.size() ? std::string_view(parts_->tokens[id].name) : std::string_view();
}

absl::StatusOr<uint32_t> Tokenizer::TokenId(std::string_view name) const {
  const std::string key(name);
  if (const auto found = parts_->added_ids.find(key); found != parts_->added_ids.end()) return found->second;
  const auto found = parts_->bpe.vocabulary().find(key);
  if (found == parts_->bpe.vocabulary().end()) return absl::NotFoundError("the tokenizer has no such token");
  return found->second;
}

bool Tokenizer::IsSpecial(uint32_t id) const {
  return id < parts_->tokens.size() && parts_->tokens[id].special;
}

uint32_t Tokenizer::vocab_size() const { return static_cast<uint32_t>(parts_->tokens.size()); }

std::span<const uint32_t> Tokenizer::special_ids() const { return parts_->special_ids; }

const std::string& Tokenizer::digest() const { return parts_->digest; }

}  // namespace mambad
