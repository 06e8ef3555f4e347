// A tokenizer.json from anywhere, then a text from anywhere: input is FILE 0xFF TEXT. Nothing may crash,
// every error is one line of INVALID_ARGUMENT, and the incremental decoder agrees with the whole one.
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "engine/text/detokenizer.h"
#include "engine/text/tokenizer.h"
#include "engine/text/utf8.h"
#include "kernels/base/check.h"

namespace {

void CheckError(const absl::Status& status) {
  MAMBAD_CHECK(status.code() == absl::StatusCode::kInvalidArgument);
  MAMBAD_CHECK(std::string(status.message()).find('\n') == std::string::npos);
  MAMBAD_CHECK(status.message().size() < 4096);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  const std::string_view input(reinterpret_cast<const char*>(data), size);
  const size_t end = input.rfind('\xFF');
  const auto tokenizer = mambad::Tokenizer::Parse(input.substr(0, end), "F");
  if (!tokenizer.ok()) {
    CheckError(tokenizer.status());
    return 0;
  }
  const std::string_view text = end == std::string_view::npos ? std::string_view() : input.substr(end + 1);
  const auto ids = (*tokenizer)->Encode(text);
  if (!ids.ok()) {
    CheckError(ids.status());
    return 0;
  }
  mambad::Detokenizer detokenizer(tokenizer->get(), true);
  std::string pieces;
  for (const uint32_t id : *ids) {
    MAMBAD_CHECK(id < (*tokenizer)->vocab_size());
    pieces += detokenizer.Append(id);
  }
  pieces += detokenizer.Finish();
  MAMBAD_CHECK(pieces == (*tokenizer)->Decode(*ids, true));
  MAMBAD_CHECK(mambad::IsValidUtf8(pieces));
  return 0;
}
