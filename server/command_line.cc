#include "server/command_line.h"

#include <algorithm>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <optional>
#include <string_view>
#include <utility>

#include "absl/status/statusor.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "engine/json_file.h"
#include "kernels/base/status_macros.h"
#include "server/config_file.h"
#include "server/exit_code.h"

namespace mambad {
namespace {

constexpr size_t kConfigBytesMax = size_t{1} << 20;
constexpr char kRequiredGroup[] = "Required";
constexpr char kConfigFlag[] = "config";
constexpr char kPrintConfigFlag[] = "print-config";

std::optional<absl::Duration> ParseDuration(const std::string& text) {
  double seconds = 0;
  absl::Duration duration;
  if (absl::SimpleAtod(text, &seconds)) {
    duration = absl::Seconds(seconds);
  } else if (!absl::ParseDuration(text, &duration)) {
    return std::nullopt;
  }
  if (duration < absl::ZeroDuration() || duration > absl::Hours(24 * 365)) return std::nullopt;
  return duration;
}

std::optional<uint64_t> ParseBytes(const std::string& text) {
  static constexpr std::pair<std::string_view, int> kUnits[] = {
      {"KiB", 10}, {"MiB", 20}, {"GiB", 30}, {"TiB", 40}};
  std::string digits = text;
  int shift = 0;
  for (const auto& [unit, bits] : kUnits) {
    if (!text.ends_with(unit)) continue;
    digits.resize(text.size() - unit.size());
    shift = bits;
  }
  uint64_t value = 0;
  if (!absl::SimpleAtoi(digits, &value) || value > (uint64_t{1} << 50) >> shift) return std::nullopt;
  return value << shift;
}

std::string BytesText(uint64_t bytes) {
  if (bytes != 0 && bytes % (uint64_t{1} << 30) == 0) return absl::StrCat(bytes >> 30, "GiB");
  if (bytes != 0 && bytes % (uint64_t{1} << 20) == 0) return absl::StrCat(bytes >> 20, "MiB");
  return absl::StrCat(bytes);
}

std::string LongName(const CLI::Option& option) {
  return option.get_lnames().empty() ? std::string() : option.get_lnames().front();
}

bool IsSetting(const CLI::Option& option) {
  const std::string name = LongName(option);
  return !name.empty() && name != "help" && name != kConfigFlag && name != kPrintConfigFlag;
}

std::string EnvironmentName(std::string_view flag) {
  std::string name = "MAMBAD_";
  for (char c : flag) {
    name += c == '-' ? '_' : static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
  }
  return name;
}

std::optional<std::string> FromEnvironment(std::string_view flag) {
  const char* value = std::getenv(EnvironmentName(flag).c_str());
  if (value == nullptr || *value == '\0') return std::nullopt;
  return std::string(value);
}

// CLI11 reports by throwing: `step` holds the calls that may.
absl::Status Guarded(const std::function<void()>& step) {
  try {
    step();
  } catch (const CLI::ParseError& error) {
    return absl::InvalidArgumentError(error.what());
  }
  return absl::OkStatus();
}

absl::Status SetFrom(CLI::Option* option, const std::string& value, const std::string& source) {
  const absl::Status status = Guarded([&] {
    option->add_result(value);
    option->run_callback();
  });
  if (status.ok()) return status;
  return absl::InvalidArgumentError(absl::StrCat(source, ": ", status.message()));
}

// The file's values by flag name; an unknown key is an error.
absl::StatusOr<std::map<std::string, ConfigEntry>> ReadSettings(const CLI::App& command,
                                                                const std::string& path) {
  std::map<std::string, ConfigEntry> settings;
  if (path.empty()) return settings;
  MAMBAD_ASSIGN_OR_RETURN(const std::string text, ReadFile(path, kConfigBytesMax));
  MAMBAD_ASSIGN_OR_RETURN(std::vector<ConfigEntry> entries, ParseConfigFile(text, path));
  for (ConfigEntry& entry : entries) {
    const CLI::Option* option = command.get_option_no_throw("--" + entry.key);
    if (option == nullptr || !IsSetting(*option)) {
      return absl::InvalidArgumentError(
          absl::StrCat(path, ":", entry.line, ": unknown key '", entry.key, "'"));
    }
    std::string key = entry.key;
    settings.emplace(std::move(key), std::move(entry));
  }
  return settings;
}

absl::Status ApplyLayers(CLI::App* command) {
  CLI::Option* config = command->get_option_no_throw(std::string("--") + kConfigFlag);
  std::string path;
  if (config != nullptr) {
    path = config->count() > 0 ? config->results().front() : FromEnvironment(kConfigFlag).value_or("");
  }
  MAMBAD_ASSIGN_OR_RETURN(const auto settings, ReadSettings(*command, path));
  for (CLI::Option* option : command->get_options()) {
    if (!IsSetting(*option) || option->count() > 0) continue;
    const std::string name = LongName(*option);
    if (const std::optional<std::string> value = FromEnvironment(name)) {
      MAMBAD_RETURN_IF_ERROR(SetFrom(option, *value, EnvironmentName(name)));
    } else if (const auto found = settings.find(name); found != settings.end()) {
      MAMBAD_RETURN_IF_ERROR(
          SetFrom(option, found->second.value, absl::StrCat(path, ":", found->second.line)));
    }
  }
  for (const CLI::Option* option : command->get_options()) {
    if (option->get_group() == kRequiredGroup && option->count() == 0) {
      return absl::InvalidArgumentError(absl::StrCat("--", LongName(*option), " is required"));
    }
  }
  return absl::OkStatus();
}

bool IsBare(std::string_view value) {
  return value == "true" || value == "false" ||
         (!value.empty() && std::ranges::all_of(value, [](char c) { return c >= '0' && c <= '9'; }));
}

// As a file that --config reads back.
void PrintConfig(const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    if (!IsSetting(*option)) continue;
    std::string value = option->count() > 0 ? option->results().back() : option->get_default_str();
    if (option->get_expected_max() == 0 && value.empty()) value = "false";
    std::printf("%s = %s\n", LongName(*option).c_str(),
                IsBare(value) ? value.c_str() : QuoteTomlString(value).c_str());
  }
}

// The code to exit with when there is nothing (more) to run.
std::optional<int> Parse(CLI::App* app, int argc, const char* const* argv) {
  try {
    app->parse(argc, argv);
  } catch (const CLI::Success& success) {
    return app->exit(success);
  } catch (const CLI::ParseError& error) {
    return FailWith(absl::InvalidArgumentError(error.what()));
  }
  return std::nullopt;
}

}  // namespace

CLI::Option* AddDuration(CLI::App* app, const std::string& name, absl::Duration* value,
                         const std::string& help) {
  const CLI::Validator check(
      [](std::string& text) {
        return ParseDuration(text).has_value() ? std::string() : std::string("not a time, such as 90s or 5m");
      },
      "");
  return app
      ->add_option_function<std::string>(
          name, [value](const std::string& text) { *value = *ParseDuration(text); }, help)
      ->check(check)
      ->type_name("TIME")
      ->default_str(absl::FormatDuration(*value));
}

CLI::Option* AddBytes(CLI::App* app, const std::string& name, uint64_t* value, const std::string& help) {
  const CLI::Validator check(
      [](std::string& text) {
        return ParseBytes(text).has_value() ? std::string()
                                            : std::string("not a size, such as 512MiB or 2GiB");
      },
      "");
  return app
      ->add_option_function<std::string>(
          name, [value](const std::string& text) { *value = *ParseBytes(text); }, help)
      ->check(check)
      ->type_name("BYTES")
      ->default_str(BytesText(*value));
}

void MarkRequired(CLI::Option* option) { option->group(kRequiredGroup); }

int RunCommandLine(CLI::App* app, const std::vector<Command>& commands, int argc, const char* const* argv) {
  const std::string print_help = "Print the settings in force, as such a file, and exit";
  for (const Command& command : commands) {
    command.app->add_option(std::string("--") + kConfigFlag,
                            "TOML file of these settings; MAMBAD_<NAME> and flags override it");
    command.app->add_flag(std::string("--") + kPrintConfigFlag, print_help);
  }
  if (const std::optional<int> code = Parse(app, argc, argv)) return *code;
  for (const Command& command : commands) {
    if (!command.app->parsed()) continue;
    if (const absl::Status status = ApplyLayers(command.app); !status.ok()) return FailWith(status);
    if (command.app->count(std::string("--") + kPrintConfigFlag) > 0) {
      PrintConfig(*command.app);
      return kExitOk;
    }
    return command.run();
  }
  return FailWith(absl::InvalidArgumentError("no command"));
}

}  // namespace mambad
