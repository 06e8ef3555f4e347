// Text to token ids and back, as Hugging Face's `tokenizers` does it for a byte-level BPE `tokenizer.json`.
#ifndef MAMBAD_ENGINE_TEXT_TOKENIZER_H_
#define MAMBAD_ENGINE_TEXT_TOKENIZER_H_

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mambad {

struct EncodeOptions {
  // Adds what the file's post-processor adds (for example a leading <s>). Wanted at position 0 of a session
  // only.
  bool add_special_tokens = true;
};

// Immutable after Load: every const method may be called from any thread at any time.
class Tokenizer {
 public:
  // The longest text that Encode takes, in bytes.
  static constexpr size_t kMaxTextBytes = size_t{64} << 20;

  // Reads a tokenizer.json. INVALID_ARGUMENT in one line naming the file and the key when anything in it is
  // damaged, beyond a limit, or would make the ids differ from Hugging Face's; NOT_FOUND when there is no
  // such file.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Load(const std::string& path);

  // The same from memory; `name` stands for the file in error messages.
  static absl::StatusOr<std::unique_ptr<const Tokenizer>> Parse(std::string_view json, std::string_view name);

  ~Tokenizer();
  Tokenizer(const Tokenizer&) = delete;
  Tokenizer& operator=(const Tokenizer&) = delete;

  // The ids of `text`; special tokens written out in the text become their ids, as in Hugging Face's encode.
  // An empty text has no ids but those of the post-processor. INVALID_ARGUMENT, without repeating the text:
  // not UTF-8, longer than kMaxTextBytes, or beyond the step limit of a `Split` pattern.
  absl::StatusOr<std::vector<uint32_t>> Encode(std::string_view text, EncodeOptions options = {}) const;

  // The text of `ids` with U+FFFD for every ill-formed piece, always valid UTF-8; ids without a token count
  // as empty. `skip_special` leaves special tokens out.
  std::string Decode(std::span<const uint32_t> ids, bool skip_special) const;

  // The bytes that one token stands for: any bytes, also part of a code point. Empty when the id has no
  // token. Valid as long as the tokenizer.
  std::string_view TokenBytes(uint32_t id) const;

  // The token as tokenizer.json spells it ("Ġthe"). Empty when the id has no token.
  std::string_view TokenName(uint32_t id) const;

  // The id of a token spelled as in tokenizer.json; NOT_FOUND when there is none. For lookups by name, such
  // as an eos_token given as text.
  absl::StatusOr<uint32_t> TokenId(std::string_view name) const;

  // Whether the file marks this id's token as special; false when the id has no token.
  bool IsSpecial(uint32_t id) const;

  // One more than the greatest id with a token. A model's vocabulary may be larger (padded), never smaller.
  uint32_t vocab_size() const;

  // Ascending.
  std::span<const uint32_t> special_ids() const;

  // XXH3-128 of the file, 32 lowercase hex digits.
  const std::string& digest() const;

 private:
  struct Parts;
  explicit Tokenizer(std::unique_ptr<const Parts> parts);

  std::unique_ptr<const Parts> parts_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_TEXT_TOKENIZER_H_
