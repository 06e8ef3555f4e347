// The server's log, on stderr: text on a terminal, JSON lines otherwise. Writing never blocks a caller: lines
// go through a bounded queue, and when that is full the oldest are lost.
//
// Prompts and outputs are never logged. Values from outside are escaped.
//
// Threads: any, after InitLog.
#ifndef MAMBAD_SERVER_LOG_H_
#define MAMBAD_SERVER_LOG_H_

#include <string>
#include <string_view>
#include <utility>

#include "nlohmann/json.hpp"

namespace mambad {

enum class LogLevel { kDebug, kInfo, kWarning, kError };

// format: "auto", "text" or "json". level: "debug", "info", "warning" or "error". Called once, by main.
void InitLog(std::string_view format, std::string_view level);

// Writes out what waits; nothing is logged after it.
void FinishLog();

// One line: `message`, then the fields in order. Without InitLog nothing is written.
void Log(LogLevel level, std::string_view message, const nlohmann::ordered_json& fields = {});

}  // namespace mambad

#endif  // MAMBAD_SERVER_LOG_H_
