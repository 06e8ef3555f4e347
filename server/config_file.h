// The configuration file: the part of TOML that flat settings need. One `key = value` a line; keys are the
// names of flags without the dashes; values are strings ("..." with escapes, or '...'), integers, floats and
// booleans; `#` starts a comment. Tables and arrays are errors, as is a key given twice: nothing is ignored.
//
// Errors: INVALID_ARGUMENT "FILE:LINE: problem". Threads: pure function.
#ifndef MAMBAD_SERVER_CONFIG_FILE_H_
#define MAMBAD_SERVER_CONFIG_FILE_H_

#include <string>
#include <string_view>
#include <vector>

#include "absl/status/statusor.h"

namespace mambad {

struct ConfigEntry {
  std::string key;
  std::string value;  // unquoted; numbers and booleans as written
  int line = 0;
};

// `name` stands for the file in messages.
absl::StatusOr<std::vector<ConfigEntry>> ParseConfigFile(std::string_view text, std::string_view name);

// `text` as a TOML basic string, quotes included.
std::string QuoteTomlString(std::string_view text);

}  // namespace mambad

#endif  // MAMBAD_SERVER_CONFIG_FILE_H_
