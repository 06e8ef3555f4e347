#include "client/ctl/session.h"

#include <CLI/CLI.hpp>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "absl/strings/str_split.h"
#include "client/ctl/checks.h"
#include "client/ctl/fail.h"
#include "client/ctl/json.h"
#include "client/ctl/prompt_flags.h"

namespace mambad::ctl {
namespace {

struct SessionFlags {
  std::string name;
  std::string new_id;
  std::vector<std::string> names;
  std::optional<double> ttl_s;
  std::vector<std::string> labels;  // "KEY=VALUE"
  uint64_t state_seed = 0;
  bool allow_missing = false;
  std::string etag;
  PromptFlags prompt;
  std::string request_id;
  std::optional<uint64_t> expect_position;
};

constexpr char kRow[] = "%-32s %12s %-10s %10s  %s\n";

void PrintHeader() { std::printf(kRow, "SESSION", "POSITION", "STATE", "BYTES", "EXPIRES"); }

void Print(const v1::Session& session, bool json) {
  if (json) {
    PrintJson(ToJson(session));
    return;
  }
  std::printf(kRow, session.name().c_str(), std::to_string(session.position()).c_str(),
              v1::Session::State_Name(session.state()).c_str(), std::to_string(session.bytes()).c_str(),
              session.has_expire_time() ? FormatTime(session.expire_time()).c_str() : "-");
}

int List(Client& client, const Globals& globals, const SessionFlags&) {
  if (!globals.json) PrintHeader();
  v1::ListSessionsRequest request;
  do {
    const absl::StatusOr<v1::ListSessionsResponse> page = client.ListSessions(request, globals.Call());
    if (!page.ok()) return Fail(page.status());
    for (const v1::Session& session : page->sessions()) Print(session, globals.json);
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return kExitOk;
}

int Get(Client& client, const Globals& globals, const SessionFlags& flags) {
  const absl::StatusOr<v1::Session> session = client.GetSession(SessionName(flags.name), globals.Call());
  if (!session.ok()) return Fail(session.status());
  if (!globals.json) PrintHeader();
  Print(*session, globals.json);
  return kExitOk;
}

// What a script wants to keep of a new session: its name.
int PrintNew(const absl::StatusOr<v1::Session>& session, const Globals& globals) {
  if (!session.ok()) return Fail(session.status());
  if (globals.json) {
    PrintJson(ToJson(*session));
  } else {
    std::printf("%s\n", session->name().c_str());
  }
  return kExitOk;
}

int Create(Client& client, const Globals& globals, const SessionFlags& flags) {
  v1::CreateSessionRequest request;
  request.set_session_id(flags.new_id);
  if (flags.ttl_s) *request.mutable_session()->mutable_ttl() = ToProto(absl::Seconds(*flags.ttl_s));
  for (const std::string& label : flags.labels) {
    const std::pair<std::string, std::string> parts = absl::StrSplit(label, absl::MaxSplits('=', 1));
    if (label.find('=') == std::string::npos) return FailUsage("--label wants KEY=VALUE");
    (*request.mutable_session()->mutable_labels())[parts.first] = parts.second;
  }
  request.mutable_session()->set_state_seed(flags.state_seed);
  return PrintNew(client.CreateSession(request, globals.Call()), globals);
}

int Delete(Client& client, const Globals& globals, const SessionFlags& flags) {
  int exit_code = kExitOk;
  for (const std::string& name : flags.names) {
    v1::DeleteSessionRequest request;
    request.set_name(SessionName(name));
    request.set_allow_missing(flags.allow_missing);
    request.set_etag(flags.etag);
    if (absl::Status status = client.DeleteSession(request, globals.Call()); !status.ok())
      exit_code = Fail(status);
  }
  return exit_code;
}

int Append(Client& client, const Globals& globals, const SessionFlags& flags) {
  v1::AppendInputRequest request;
  request.set_name(SessionName(flags.name));
  request.set_request_id(flags.request_id);
  if (flags.expect_position) request.set_expect_position(*flags.expect_position);
  absl::StatusOr<v1::Prompt> prompt = flags.prompt.Read(/*may_be_empty=*/false);
  if (!prompt.ok()) return FailUsage(std::string(prompt.status().message()));
  *request.mutable_prompt() = *std::move(prompt);

  const absl::StatusOr<v1::AppendInputResponse> response = client.AppendInput(request, globals.Call());
  if (!response.ok()) return Fail(response.status());
  if (globals.json) {
    PrintJson({{"session", ToJson(response->session())}, {"usage", ToJson(response->usage())}});
  } else {
    std::printf("read %llu tokens, position %llu\n",
                static_cast<unsigned long long>(response->usage().input_tokens()),
                static_cast<unsigned long long>(response->usage().session_position()));
  }
  return kExitOk;
}

int Fork(Client& client, const Globals& globals, const SessionFlags& flags) {
  v1::ForkSessionRequest request;
  request.set_name(SessionName(flags.name));
  request.set_session_id(flags.new_id);
  return PrintNew(client.ForkSession(request, globals.Call()), globals);
}

using Action = int (*)(Client&, const Globals&, const SessionFlags&);

// The actions below `session`; each with its flags.
std::map<CLI::App*, Action> AddActions(CLI::App& app, SessionFlags& flags) {
  std::map<CLI::App*, Action> actions;
  const auto add = [&](const char* name, const char* what, Action action) {
    CLI::App* sub = app.add_subcommand(name, what);
    actions[sub] = action;
    return sub;
  };
  const auto add_name = [&](CLI::App* sub) {
    sub->add_option("session", flags.name, "The session's id or name")->required()->type_name("ID");
  };
  add("list", "All sessions, with position and state", List);
  add_name(add("get", "One session", Get));

  CLI::App* create = add("create", "Open a session and print its name", Create);
  create->add_option("id", flags.new_id, "Its id (default: the server makes one)")->type_name("ID");
  create->add_option("--ttl", flags.ttl_s, "Idle seconds after which it is deleted")
      ->check(CLI::PositiveNumber)
      ->check(CheckSeconds)
      ->type_name("S");
  create->add_option("--label", flags.labels, "A label; may repeat")
      ->type_name("KEY=VALUE")
      ->expected(1)
      ->take_all();
  create->add_option("--state-seed", flags.state_seed, "Of the rounding of a bf16 state (default: 0)")
      ->type_name("SEED");

  CLI::App* erase = add("delete", "Delete sessions", Delete);
  erase->add_option("sessions", flags.names, "Ids or names")->required()->type_name("ID");
  erase->add_flag("--allow-missing", flags.allow_missing, "One that is gone already is no error");
  erase->add_option("--etag", flags.etag, "Delete only this version")->type_name("ETAG");

  CLI::App* append = add("append", "Let a session read without answering", Append);
  add_name(append);
  flags.prompt.AddTo(*append);
  append
      ->add_option("--expect-position", flags.expect_position, "Fail unless it is there; makes retries safe")
      ->type_name("N");
  append->add_option("--request-id", flags.request_id, "Your name for the request")->type_name("ID");

  CLI::App* fork = add("fork", "Copy a session and print the copy's name", Fork);
  add_name(fork);
  fork->add_option("id", flags.new_id, "The copy's id (default: the server makes one)")->type_name("ID");
  return actions;
}

}  // namespace

Verb AddSession(CLI::App& parent) {
  CLI::App* app =
      parent.add_subcommand("session", "List, open, feed, fork and delete sessions (default: list)");
  app->require_subcommand(0, 1);
  auto flags = std::make_shared<SessionFlags>();
  const std::map<CLI::App*, Action> actions = AddActions(*app, *flags);
  return {app, [flags, actions](const Globals& globals) {
            Action chosen = List;
            for (const auto& [sub, action] : actions) {
              if (sub->parsed()) chosen = action;
            }
            absl::StatusOr<Client> client = globals.Connect();
            if (!client.ok()) return Fail(client.status());
            return chosen(*client, globals, *flags);
          }};
}

}  // namespace mambad::ctl
