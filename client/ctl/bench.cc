#include "client/ctl/bench.h"

#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdio>
#include <latch>
#include <memory>
#include <random>
#include <thread>
#include <vector>

#include "client/ctl/bench_report.h"
#include "client/ctl/fail.h"

namespace mambad::ctl {
namespace {

constexpr int kMaxStreams = 4096;
constexpr auto kProgressPeriod = std::chrono::milliseconds(200);

struct BenchFlags {
  int streams = 16;
  uint32_t prompt_tokens = 64;
  uint32_t output_tokens = 64;
  int channels = 4;
  uint64_t seed = 1;
  std::string model;
};

double SecondsNow() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

// A prompt of random tokens, another one for each stream: nothing can be shared.
v1::GenerateRequest RequestOf(const BenchFlags& flags, uint64_t vocab_size, int stream) {
  v1::GenerateRequest request;
  request.set_model(ModelName(flags.model));
  std::mt19937_64 generator(flags.seed + static_cast<uint64_t>(stream));
  std::uniform_int_distribution<uint64_t> token(0, vocab_size - 1);
  auto& ids = *request.mutable_prompt()->mutable_token_ids()->mutable_ids();
  for (uint32_t i = 0; i < flags.prompt_tokens; ++i) ids.Add(static_cast<uint32_t>(token(generator)));
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_output_tokens(flags.output_tokens);
  request.mutable_stop()->set_ignore_eos(true);
  request.mutable_output()->set_token_ids(true);
  return request;
}

struct Progress {
  std::atomic<uint64_t> tokens = 0;
  std::atomic<int> running = 0;
};

absl::Status RunStream(Client& client, const v1::GenerateRequest& request, const Globals& globals,
                       StreamTimes& times, Progress& progress) {
  CallOptions options = globals.Call();
  options.retry.max_attempts = 1;  // a refusal is a result here
  times.arrivals.reserve(request.stop().max_output_tokens());
  times.start = SecondsNow();
  GenerateStream stream = client.StreamGenerate(request, options);
  for (const v1::StreamGenerateResponse& event : stream) {
    if (!event.has_delta() || event.delta().token_ids().empty()) continue;
    times.arrivals.push_back({SecondsNow(), event.delta().token_ids_size()});
    progress.tokens.fetch_add(static_cast<uint64_t>(event.delta().token_ids_size()),
                              std::memory_order_relaxed);
  }
  times.end = SecondsNow();
  times.failed = !stream.status().ok();
  return stream.status();
}

// On a terminal: how far it is, until every stream has ended.
void ShowProgress(const Progress& progress, uint64_t all_tokens) {
  if (isatty(STDERR_FILENO) == 0) return;
  while (progress.running.load() > 0) {
    std::fprintf(stderr, "\r%llu of %llu tokens", static_cast<unsigned long long>(progress.tokens.load()),
                 static_cast<unsigned long long>(all_tokens));
    std::this_thread::sleep_for(kProgressPeriod);
  }
  std::fprintf(stderr, "\r\x1b[K");
}

int Run(const Globals& globals, const BenchFlags& flags) {
  std::vector<Client> clients;
  for (int i = 0; i < std::min(flags.channels, flags.streams); ++i) {
    absl::StatusOr<Client> client = globals.Connect();
    if (!client.ok()) return Fail(client.status());
    clients.push_back(*std::move(client));
  }
  const absl::StatusOr<v1::Model> model = clients[0].GetModel(ModelName(flags.model), globals.Call());
  if (!model.ok()) return Fail(model.status());
  if (model->vocab_size() == 0) return Fail(absl::InternalError("the model's vocab_size is 0"));

  const auto streams = static_cast<size_t>(flags.streams);
  std::vector<StreamTimes> times(streams);
  std::vector<absl::Status> statuses(streams);
  Progress progress;
  progress.running = flags.streams;
  std::latch together(flags.streams);
  std::vector<std::jthread> threads;
  for (size_t i = 0; i < streams; ++i) {
    threads.emplace_back([&, i] {
      const v1::GenerateRequest request = RequestOf(flags, model->vocab_size(), static_cast<int>(i));
      together.arrive_and_wait();
      statuses[i] = RunStream(clients[i % clients.size()], request, globals, times[i], progress);
      --progress.running;
    });
  }
  ShowProgress(progress, streams * flags.output_tokens);
  threads.clear();

  const BenchReport report = BenchReport::Of(times);
  if (globals.json) {
    PrintJson(report.ToJson());
  } else {
    std::printf("%s", report.ToText().c_str());
  }
  const auto failed =
      std::find_if(statuses.begin(), statuses.end(), [](const auto& status) { return !status.ok(); });
  const int exit_code = failed == statuses.end() ? kExitOk : Fail(*failed);
  // The count of errors is a result; only a run without any other one has failed.
  return report.errors == report.streams ? exit_code : kExitOk;
}

}  // namespace

Verb AddBench(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("bench", "Time to first token, inter-token latency and throughput");
  auto flags = std::make_shared<BenchFlags>();
  app->add_option("--streams", flags->streams, "So many at once (default 16)")
      ->check(CLI::Range(1, kMaxStreams))
      ->type_name("N");
  app->add_option("--prompt-tokens", flags->prompt_tokens, "Random tokens in each prompt (default 64)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app->add_option("--output-tokens", flags->output_tokens, "Tokens in each answer (default 64)")
      ->check(CLI::Range(1, 1 << 20))
      ->type_name("N");
  app->add_option("--channels", flags->channels, "Connections that share the streams (default 4)")
      ->check(CLI::Range(1, kMaxStreams))
      ->type_name("N");
  app->add_option("--seed", flags->seed, "Of the random prompts");
  app->add_option("--model", flags->model, "Which model (default: the only one)")->type_name("ID");
  return {app, [flags](const Globals& globals) { return Run(globals, *flags); }};
}

}  // namespace mambad::ctl
