#include "engine/text/detokenizer.h"

namespace mambad {

std::string Detokenizer::Append(uint32_t id) {
  std::string text;
  if (skip_special_ && tokenizer_->IsSpecial(id)) return text;
  decoder_.Append(tokenizer_->TokenBytes(id), &text);
  return text;
}

std::string Detokenizer::Finish() {
  std::string text;
  decoder_.Finish(&text);
  return text;
}

}  // namespace mambad
