#include "client/ctl/health.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "client/ctl/fail.h"
#include "client/ctl/json.h"

namespace mambad::ctl {
namespace {

constexpr double kDefaultTimeoutS = 5;  // a probe that hangs is an unhealthy answer too

int Run(Globals globals, const std::string& service) {
  if (globals.timeout_s <= 0) globals.timeout_s = kDefaultTimeoutS;
  absl::StatusOr<Client> client = globals.Connect();
  if (!client.ok()) return Fail(client.status());
  const absl::StatusOr<bool> serving = client->IsServing(service, globals.Call());
  if (!serving.ok()) return Fail(serving.status());
  const char* answer = *serving ? "SERVING" : "NOT_SERVING";
  if (globals.json) {
    PrintJson({{"status", answer}, {"service", service}});
  } else {
    std::printf("%s\n", answer);
  }
  return *serving ? kExitOk : kExitFailed;
}

}  // namespace

Verb AddHealth(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("health", "Exit 0 when the server takes requests, 1 otherwise");
  auto service = std::make_shared<std::string>();
  app->add_option("--service", *service,
                  "One service, e.g. mambad.v1.GenerationService (default: the server)")
      ->type_name("NAME");
  return {app, [service](const Globals& globals) { return Run(globals, *service); }};
}

}  // namespace mambad::ctl
