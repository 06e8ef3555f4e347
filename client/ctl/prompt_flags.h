// --prompt, --file, --tokens: where a prompt comes from.
#ifndef MAMBAD_CLIENT_CTL_PROMPT_FLAGS_H_
#define MAMBAD_CLIENT_CTL_PROMPT_FLAGS_H_

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"
#include "mambad/v1/common.pb.h"

namespace CLI {
class App;
}

namespace mambad::ctl {

inline constexpr size_t kMaxPromptBytes = 64 << 20;

struct PromptFlags {
  std::optional<std::string> text;
  std::optional<std::string> file;
  std::optional<std::string> tokens;

  // `text_flag` names the one that takes text.
  void AddTo(CLI::App& app, const std::string& text_flag = "-p,--prompt");

  // The prompt; standard input when no flag names one and it is no terminal. A prompt from a file or standard
  // input loses one newline at its end. Without any source: an empty prompt when `may_be_empty`, else
  // INVALID_ARGUMENT.
  absl::StatusOr<v1::Prompt> Read(bool may_be_empty) const;
};

// "1,2,3", or "@FILE" with ids between commas, blanks and newlines.
absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_PROMPT_FLAGS_H_
