#include "client/ctl/chat.h"

#include <signal.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <memory>
#include <string>

#include "absl/strings/escaping.h"
#include "absl/strings/str_cat.h"
#include "absl/time/clock.h"
#include "client/ctl/answer.h"
#include "client/ctl/chat_commands.h"
#include "client/ctl/checks.h"
#include "client/ctl/conversation.h"
#include "client/ctl/fail.h"
#include "client/ctl/generation_flags.h"
#include "client/ctl/interrupts.h"
#include "client/ctl/line_reader.h"
#include "client/ctl/terminal.h"

namespace mambad::ctl {
namespace {

constexpr char kPrompt[] = "> ";
constexpr uint32_t kDefaultMaxTokens = 200;

struct ChatFlags {
  SamplingFlags sampling;
  std::string session;
  std::string model;
  std::string before = "\\n";
  std::string after;
  double ttl_s = 3600;
  bool keep = false;
};

class Chat {
 public:
  Chat(const Globals& globals, Client& client, Conversation& conversation, Interrupts& interrupts,
       SamplingFlags sampling)
      : globals_(globals),
        client_(client),
        conversation_(conversation),
        interrupts_(interrupts),
        sampling_(std::move(sampling)),
        reader_(interrupts) {}

  // Until the user leaves; the exit code.
  int Run() {
    if (reader_.interactive())
      Note(absl::StrCat("session ", conversation_.session(), " on ", globals_.server,
                        "; /help lists the commands"));
    bool leaving = false;  // the last line was a Ctrl-C
    while (interrupts_.ending() == 0) {
      const LineReader::Line line = reader_.Read(kPrompt);
      switch (line.end) {
        case LineReader::End::kEndOfInput:
          return kExitOk;
        case LineReader::End::kTooLong:
          return Fail(absl::InvalidArgumentError("a line of the input is too long"));
        case LineReader::End::kInterrupt:
          if (leaving || !reader_.interactive() || interrupts_.ending() != 0) return kExitOk;
          leaving = true;
          Note("Ctrl-C again, or /quit, to leave");
          continue;
        case LineReader::End::kLine:
          leaving = false;
      }
      if (!IsUtf8(line.text)) {
        const int exit_code = FailUsage("a line of the input is not valid UTF-8");
        if (!reader_.interactive()) return exit_code;
      } else if (line.text.starts_with('/')) {
        const CommandResult result = RunCommand(line.text, client_, conversation_, sampling_);
        if (result.quit) return kExitOk;
        Note(result.message);
      } else if (!line.text.empty() || conversation_.position() > 0) {
        const absl::Status status = Turn(line.text);
        // A script wants to know; a person reads it and goes on.
        if (!status.ok() && !reader_.interactive()) return kExitFailed;
      }
    }
    return kExitOk;
  }

 private:
  absl::Status Turn(std::string_view words) {
    Answer answer(absl::Now());
    absl::Status status;
    {
      const TerminalMode quiet(TerminalMode::Keys::kQuiet);
      interrupts_.SetAction([this](int) { conversation_.Cancel(); });
      status = conversation_.Turn(words, sampling_, [&](const v1::StreamGenerateResponse& event) {
        answer.Add(event, absl::Now());
        if (!globals_.json) out_.Write(event.delta().text());
      });
      interrupts_.SetAction(nullptr);
    }
    if (globals_.json && !answer.candidates().empty()) PrintJson(answer.CandidateJson(0));
    if (!globals_.json) EndAnswer();
    const bool stopped = (reader_.interactive() || interrupts_.ending() != 0) && absl::IsCancelled(status);
    if (stopped) {
      Note(absl::StrCat("stopped, position ", conversation_.position()));
      return absl::OkStatus();
    }
    if (!status.ok()) {
      Fail(status);
    } else if (reader_.interactive()) {
      Note(answer.StatsLine());
    }
    return status;
  }

  // The next thing starts on a line of its own, for a reading program too.
  void EndAnswer() {
    if (out_.is_terminal()) {
      out_.EndLine();
    } else {
      out_.Write("\n");
    }
  }

  void Note(std::string_view text) {
    std::fflush(stdout);
    std::fprintf(stderr, "%s\n", Dim(Printable(text), HasStyle(STDERR_FILENO)).c_str());
  }

  const Globals& globals_;
  Client& client_;
  Conversation& conversation_;
  Interrupts& interrupts_;
  SamplingFlags sampling_;
  LineReader reader_;
  TextOutput out_;
};

int Run(const Globals& globals, const ChatFlags& flags) {
  ConversationOptions options;
  options.model = ModelName(flags.model);
  options.ttl = absl::Seconds(flags.ttl_s);
  options.keep = flags.keep;
  options.call = globals.Call();
  if (!absl::CUnescape(flags.before, &options.before) || !absl::CUnescape(flags.after, &options.after) ||
      !IsUtf8(options.before) || !IsUtf8(options.after))
    return FailUsage("--before and --after take UTF-8 with C escapes, e.g. \\n");
  v1::GenerateRequest probe;
  if (absl::Status status = flags.sampling.Apply(probe); !status.ok())
    return FailUsage(std::string(status.message()));
  SamplingFlags sampling = flags.sampling;
  if (!sampling.max_tokens) sampling.max_tokens = kDefaultMaxTokens;

  Interrupts interrupts({SIGINT, SIGHUP, SIGTERM});
  interrupts.SetAction(DieOf);
  absl::StatusOr<Client> client = globals.Connect();
  if (!client.ok()) return Fail(client.status());
  Conversation conversation(*client, options);
  const absl::Status opened =
      flags.session.empty() ? conversation.Open("") : conversation.Switch(flags.session);
  if (!opened.ok()) return Fail(opened);
  interrupts.SetAction(nullptr);

  const int exit_code = Chat(globals, *client, conversation, interrupts, sampling).Run();
  conversation.Close();
  if (interrupts.ending() != 0) DieOf(interrupts.ending());
  return exit_code;
}

}  // namespace

Verb AddChat(CLI::App& parent) {
  CLI::App* app = parent.add_subcommand("chat", "Talk to a session; /help inside");
  auto flags = std::make_shared<ChatFlags>();
  app->add_option("-s,--session", flags->session, "Go on with this session (default: a new one)")
      ->type_name("ID");
  app->add_option("--model", flags->model, "Which model (default: the only one)")->type_name("ID");
  app->add_option("--before", flags->before, "Put before each turn's words but the first (default \\n)")
      ->type_name("TEXT");
  app->add_option("--after", flags->after, "Put after each turn's words (default nothing)")
      ->type_name("TEXT");
  app->add_option("--ttl", flags->ttl_s, "Idle seconds after which a new session expires (default 3600)")
      ->check(CLI::PositiveNumber)
      ->check(CheckSeconds)
      ->type_name("S");
  app->add_flag("--keep", flags->keep, "Keep the sessions opened here");
  flags->sampling.AddTo(*app);
  return {app, [flags](const Globals& globals) { return Run(globals, *flags); }};
}

}  // namespace mambad::ctl
