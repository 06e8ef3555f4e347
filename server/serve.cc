#include "server/serve.h"

#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <future>
#include <memory>
#include <string>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_replace.h"
#include "absl/time/clock.h"
#include "engine/device_info.h"
#include "grpc/support/log.h"
#include "kernels/base/status_macros.h"
#include "server/exit_code.h"
#include "server/loading.h"
#include "server/log.h"
#include "server/server.h"
#include "server/serving.h"

namespace mambad {
namespace {

constexpr absl::Duration kPoll = absl::Milliseconds(50);
// After the drain: what has not ended yet gets this long to be told, or, when every request has, small calls
// get this long to answer. Idle connections would use it up: clients that do not poll never say goodbye.
constexpr absl::Duration kCallsEnd = absl::Seconds(2);
constexpr absl::Duration kSmallCallsEnd = absl::Milliseconds(200);
// Then gRPC gets this long to stop.
constexpr absl::Duration kShutdownHangs = absl::Seconds(10);
constexpr absl::Duration kHttpEnds = absl::Milliseconds(500);

// SIGTERM and SIGINT as a question rather than an interruption. Constructed before any other thread exists,
// so that all of them leave the signals to it.
class StopSignals {
 public:
  StopSignals() {
    sigemptyset(&set_);
    sigaddset(&set_, SIGTERM);
    sigaddset(&set_, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set_, nullptr);
    signal(SIGPIPE, SIG_IGN);
  }

  // Whether one arrived within `timeout`.
  bool Wait(absl::Duration timeout) {
    const absl::Time end = absl::Now() + timeout;
    for (;;) {
      const timespec limit = absl::ToTimespec(std::max(absl::ZeroDuration(), end - absl::Now()));
      if (sigtimedwait(&set_, nullptr, &limit) > 0) return true;
      if (errno != EINTR) return false;  // a debugger that attaches interrupts without a signal
    }
  }

 private:
  sigset_t set_;
};

// gRPC's own complaints belong into our log.
void ForwardGrpcLog(gpr_log_func_args* line) {
  Log(line->severity == GPR_LOG_SEVERITY_ERROR ? LogLevel::kWarning : LogLevel::kDebug, "grpc",
      {{"detail", line->message}});
}

[[noreturn]] void ExitNow(int code) {
  FinishLog();
  std::fflush(stdout);
  _exit(code);
}

// Ends the process with `code` when what follows takes longer than `limit`, or when another signal asks for
// it.
void StartWatchdog(absl::Duration limit, int code, StopSignals* signals) {
  std::thread([limit, code, signals] {
    const bool signal = signals->Wait(limit);
    Log(LogLevel::kError,
        signal ? "second signal: the process ends at once" : "shutdown hangs; the process ends");
    ExitNow(code);
  }).detach();
}

// Every call has its status by now; a client that does not let go of the HTTP port is no failure of ours.
void CloseHttp(Server* server) {
  std::thread([] {
    absl::SleepFor(kHttpEnds);
    ExitNow(kExitOk);
  }).detach();
  server->CloseHttp();
}

std::string MiB(uint64_t bytes) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f MiB", static_cast<double>(bytes) / (1 << 20));
  return text;
}

// The engine's options by the names of their flags.
absl::Status InFlags(const absl::Status& status) {
  return absl::Status(status.code(), absl::StrReplaceAll(absl::string_view(status.message()),
                                                         {{"sessions_max", "--max-sessions"},
                                                          {"queue_requests_max", "--queue-requests"},
                                                          {"queue_tokens_max", "--queue-tokens"},
                                                          {"prompt_tokens_max", "--max-prompt-tokens"},
                                                          {"decode_rows_max", "--decode-rows"},
                                                          {"prompt_share", "--prompt-share"},
                                                          {"state_memory_bytes", "--state-memory"},
                                                          {"state_slots", "--slots"}}));
}

absl::StatusOr<std::shared_ptr<const Serving>> MakeServing(const ServeOptions& options) {
  const auto log = [](const std::string& line) { Log(LogLevel::kInfo, line); };
  ForwardLimits limits;
  limits.decode_rows = options.decode_rows;
  limits.prompt_tokens = std::max(options.prompt_tokens_per_pass, limits.prompt_tokens);
  const absl::Time start = absl::Now();
  MAMBAD_ASSIGN_OR_RETURN(const ModelAndText loaded, Load(options.model, limits, log));
  EngineOptions engine_options = ToEngineOptions(options, *loaded.model);
  engine_options.log = log;
  auto serving = std::make_shared<Serving>();
  MAMBAD_ASSIGN_OR_RETURN(serving->model_id, ModelId(options));
  serving->defaults = loaded.defaults;
  if (loaded.tokenizer != nullptr) {
    MAMBAD_ASSIGN_OR_RETURN(const std::vector<uint32_t> added,
                            loaded.tokenizer->Encode("", {.add_special_tokens = true}));
    serving->adds_special_tokens = !added.empty();
  }
  auto engine = Engine::Create(loaded.model, loaded.tokenizer, engine_options);
  if (!engine.ok()) return InFlags(engine.status());
  serving->engine = *std::move(engine);
  Log(LogLevel::kInfo, "model loaded",
      {{"weights", MiB(loaded.model->info().weight_bytes)},
       {"seconds", absl::ToDoubleSeconds(absl::Now() - start)}});
  return serving;
}

// The memory ceiling: one line per user, and their sum.
void LogLedger(const Engine& engine) {
  uint64_t total = 0;
  for (const MemoryAddend& addend : engine.MemoryLedger()) {
    total += addend.bytes;
    Log(LogLevel::kInfo, "memory", {{"user", addend.name}, {"size", MiB(addend.bytes)}});
  }
  Log(LogLevel::kInfo, "memory", {{"user", "total"}, {"size", MiB(total)}});
}

void PrintReady(const Server& server, const ServeOptions& options, const Serving& serving) {
  std::printf("mambad ready grpc=%s http=%s model=%s device=%s slots=%u\n",
              server.grpc_address().ToString().c_str(), server.http_address().ToString().c_str(),
              serving.model_name().c_str(), DescribeDevice(serving.engine->model()).kind.c_str(),
              serving.engine->options().state_slots);
  std::fflush(stdout);
}

// Waits for a signal while the engine is well. True: a signal; false: the device was lost.
bool WaitForSignal(const Engine& engine, StopSignals* signals) {
  while (!signals->Wait(kPoll)) {
    if (!engine.healthy(absl::Now())) return false;
  }
  return true;
}

// Every open call gets its status, then the process ends.
[[noreturn]] void EndOnLostDevice(Server* server, StopSignals* signals) {
  Log(LogLevel::kError, "the device was lost");
  server->MarkUnhealthy();
  StartWatchdog(kCallsEnd + kShutdownHangs, kExitDeviceLost, signals);
  server->ShutDown(absl::Now() + kCallsEnd);
  ExitNow(kExitDeviceLost);
}

void DrainAndShutDown(const ServeOptions& options, const Engine& engine, Server* server,
                      StopSignals* signals) {
  Log(LogLevel::kInfo, "draining", {{"timeout", absl::FormatDuration(options.drain_timeout)}});
  const auto drained = std::make_shared<std::atomic<bool>>(false);
  server->Drain(absl::Now() + options.drain_timeout, [drained] { drained->store(true); });
  const absl::Time give_up = absl::Now() + options.drain_timeout + kCallsEnd;
  while ((!drained->load() || server->HasOpenCalls()) && absl::Now() < give_up) {
    if (signals->Wait(kPoll)) {
      Log(LogLevel::kWarning, "second signal: the process ends at once");
      ExitNow(kExitFailure);
    }
    if (!engine.healthy(absl::Now())) EndOnLostDevice(server, signals);
  }
  StartWatchdog(kSmallCallsEnd + kShutdownHangs, kExitFailure, signals);
  server->ShutDown(absl::Now() + kSmallCallsEnd);
  CloseHttp(server);
}

}  // namespace

int RunServe(const ServeOptions& options) { return RunServe(options, MakeServing); }

int RunServe(const ServeOptions& options, const MakeServingFn& make_serving) {
  StopSignals signals;
  if (const absl::Status status = CheckServeOptions(options); !status.ok()) return FailWith(status);
  InitLog(options.log_format, options.log_level);
  gpr_set_log_function(&ForwardGrpcLog);

  ServerOptions server_options;
  server_options.grpc_address = *ParseAddress(options.grpc_address);
  server_options.http_address = *ParseAddress(options.http_address);
  server_options.model_id = *ModelId(options);
  server_options.default_deadline = options.default_deadline;
  const absl::StatusOr<std::unique_ptr<Server>> server = Server::Listen(server_options);
  if (!server.ok()) {
    FinishLog();
    return FailWith(server.status());
  }

  auto loading = std::async(std::launch::async, make_serving, options);
  while (loading.wait_for(std::chrono::milliseconds(0)) != std::future_status::ready) {
    if (signals.Wait(kPoll)) ExitNow(kExitOk);
  }
  absl::StatusOr<std::shared_ptr<const Serving>> serving = loading.get();
  if (!serving.ok()) {
    (*server)->ShutDown(absl::Now());
    FinishLog();
    return FailWith(serving.status());
  }
  LogLedger(*(*serving)->engine);
  (*serving)->engine->Start();
  (*server)->Serve(*serving);
  PrintReady(**server, options, **serving);

  const Engine& engine = *(*serving)->engine;
  if (!WaitForSignal(engine, &signals)) EndOnLostDevice(server->get(), &signals);
  DrainAndShutDown(options, engine, server->get(), &signals);
  Log(LogLevel::kInfo, "stopped");
  FinishLog();
  return kExitOk;
}

}  // namespace mambad
