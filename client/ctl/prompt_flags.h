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

// Type names of the flags that take a path: PATH, or ids that may stand in a file.
inline constexpr char kPathType[] = "PATH";
inline constexpr char kIdsType[] = "IDS";

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

// "1,2,3", or "@FILE" with the list in it: ids between commas, blanks and newlines, and none missing beside a
// comma. A list without any id is empty.
absl::StatusOr<std::vector<uint32_t>> ParseTokenIds(std::string_view text);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_PROMPT_FLAGS_H_
