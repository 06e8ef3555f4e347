#include "server/log.h"

#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <memory>

#include "absl/time/clock.h"
#include "absl/time/time.h"
#include "spdlog/async.h"
#include "spdlog/sinks/stdout_color_sinks.h"
#include "spdlog/spdlog.h"

namespace mambad {
namespace {

constexpr size_t kLinesMax = 8192;

struct LogState {
  std::shared_ptr<spdlog::details::thread_pool> thread;
  std::shared_ptr<spdlog::async_logger> logger;
  bool json = false;
};

std::atomic<LogState*> g_log{nullptr};
std::atomic<LogState*> g_finished{nullptr};  // kept: threads may still be inside Log

spdlog::level::level_enum ToSpdlog(LogLevel level) {
  switch (level) {
    case LogLevel::kDebug:
      return spdlog::level::debug;
    case LogLevel::kInfo:
      return spdlog::level::info;
    case LogLevel::kWarning:
      return spdlog::level::warn;
    case LogLevel::kError:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

LogLevel LevelOf(std::string_view name) {
  if (name == "debug") return LogLevel::kDebug;
  if (name == "warning") return LogLevel::kWarning;
  if (name == "error") return LogLevel::kError;
  return LogLevel::kInfo;
}

const char* LevelName(LogLevel level) {
  static constexpr const char* kNames[] = {"debug", "info", "warning", "error"};
  return kNames[static_cast<int>(level)];
}

// JSON's own escaping also keeps control characters and broken UTF-8 out of a terminal.
std::string Dump(const nlohmann::ordered_json& value) {
  return value.dump(-1, ' ', false, nlohmann::ordered_json::error_handler_t::replace);
}

std::string TextLine(std::string_view message, const nlohmann::ordered_json& fields) {
  std::string line(message);
  for (const auto& [key, value] : fields.items()) line += "  " + key + "=" + Dump(value);
  return line;
}

std::string JsonLine(LogLevel level, std::string_view message, const nlohmann::ordered_json& fields) {
  nlohmann::ordered_json line;
  line["time"] = absl::FormatTime("%Y-%m-%dT%H:%M:%E6SZ", absl::Now(), absl::UTCTimeZone());
  line["level"] = LevelName(level);
  line["message"] = std::string(message);
  for (const auto& [key, value] : fields.items()) line[key] = value;
  return Dump(line);
}

}  // namespace

void InitLog(std::string_view format, std::string_view level) {
  auto* state = new LogState;  // lives until the process ends: threads may log to the last
  state->json = format == "json" || (format == "auto" && isatty(STDERR_FILENO) == 0);
  state->thread = std::make_shared<spdlog::details::thread_pool>(kLinesMax, 1);
  auto sink = std::make_shared<spdlog::sinks::stderr_color_sink_mt>();
  state->logger = std::make_shared<spdlog::async_logger>("mambad", sink, state->thread,
                                                         spdlog::async_overflow_policy::overrun_oldest);
  state->logger->set_pattern(state->json ? "%v" : "%H:%M:%S.%e %^%-7l%$ %v");
  state->logger->set_level(ToSpdlog(LevelOf(level)));
  g_log.store(state);
}

void FinishLog() {
  LogState* state = g_log.exchange(nullptr);
  if (state == nullptr) return;
  // Ending the thread writes out its queue.
  state->thread.reset();
  g_finished.store(state);
}

void Log(LogLevel level, std::string_view message, const nlohmann::ordered_json& fields) {
  LogState* state = g_log.load();
  if (state == nullptr || !state->logger->should_log(ToSpdlog(level))) return;
  const std::string line = state->json ? JsonLine(level, message, fields) : TextLine(message, fields);
  state->logger->log(ToSpdlog(level), spdlog::string_view_t(line.data(), line.size()));
}

}  // namespace mambad
