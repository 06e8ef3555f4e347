#include "client/ctl/generate.h"

#include <signal.h>

#include <CLI/CLI.hpp>
#include <atomic>
#include <cstdio>
#include <memory>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/time/clock.h"
#include "client/ctl/answer.h"
#include "client/ctl/fail.h"
#include "client/ctl/generation_flags.h"
#include "client/ctl/interrupts.h"
#include "client/ctl/prompt_flags.h"
#include "client/ctl/terminal.h"

namespace mambad::ctl {
namespace {

struct GenerateFlags {
  PromptFlags prompt;
  SamplingFlags sampling;
  RequestFlags request;
  bool stats = false;
  bool unary = false;
};

// Ids between blanks, on one line.
std::string IdText(const google::protobuf::RepeatedField<uint32_t>& ids) {
  std::string text;
  for (const uint32_t id : ids) absl::StrAppend(&text, id, " ");
  return text;
}

// Writes an answer as it comes, or (JSON, several candidates) when it is complete.
class Printer {
 public:
  Printer(const Globals& globals, bool ids, bool whole) : json_(globals.json), ids_(ids), whole_(whole) {}

  bool Delta(const v1::Delta& delta) {
    if (json_ || whole_) return true;
    return out_.Write(ids_ ? IdText(delta.token_ids()) : delta.text());
  }

  bool End(const Answer& answer) {
    for (size_t i = 0; i < answer.candidates().size(); ++i) {
      if (json_ && !PrintJson(answer.CandidateJson(i))) return false;
      if (!json_ && whole_ && !Candidate(answer.candidates()[i], answer.candidates().size() > 1))
        return false;
    }
    out_.EndLine();
    return true;
  }

 private:
  bool Candidate(const v1::Candidate& candidate, bool one_of_many) {
    if (one_of_many) std::fprintf(stderr, "-- candidate %u --\n", candidate.index());
    if (!out_.Write(ids_ ? IdText(candidate.token_ids()) : candidate.text())) return false;
    return !one_of_many || out_.Write("\n");
  }

  TextOutput out_;
  bool json_;
  bool ids_;
  bool whole_;
};

absl::Status Stream(GenerateStream& stream, Answer& answer, Printer& printer) {
  for (const v1::StreamGenerateResponse& event : stream) {
    answer.Add(event, absl::Now());
    if (event.has_delta() && !printer.Delta(event.delta()))
      return absl::DataLossError("cannot write the output");
  }
  return stream.status();
}

// Text is asked for unless the model has none to give.
absl::StatusOr<bool> AnswersInIds(Client& client, const v1::GenerateRequest& request,
                                  const Globals& globals) {
  if (request.output().skip_text()) return true;
  if (request.prompt().has_text()) return false;
  const absl::StatusOr<v1::Model> model = client.GetModel(request.model(), globals.Call());
  if (!model.ok()) return model.status();
  return !model->has_tokenizer();
}

int Run(const Globals& globals, const GenerateFlags& flags) {
  v1::GenerateRequest request;
  if (absl::Status status = flags.sampling.Apply(request); !status.ok())
    return FailUsage(std::string(status.message()));
  flags.request.Apply(request);
  absl::StatusOr<v1::Prompt> prompt = flags.prompt.Read(/*may_be_empty=*/!request.session().empty());
  if (!prompt.ok()) return FailUsage(std::string(prompt.status().message()));
  *request.mutable_prompt() = *std::move(prompt);
  if (globals.json) request.mutable_output()->set_token_ids(true);

  Interrupts interrupts({SIGINT});
  interrupts.SetAction(DieOf);
  absl::StatusOr<Client> client = globals.Connect();
  if (!client.ok()) return Fail(client.status());
  const absl::StatusOr<bool> ids = AnswersInIds(*client, request, globals);
  if (!ids.ok()) return Fail(ids.status());

  Printer printer(globals, *ids, /*whole=*/flags.unary || request.candidate_count() > 1);
  Answer answer(absl::Now());
  absl::Status status;
  if (flags.unary) {
    const absl::StatusOr<v1::GenerateResponse> response = client->Generate(request, globals.Call());
    status = response.status();
    if (response.ok()) answer.Add(*response, absl::Now());
  } else {
    GenerateStream stream = client->StreamGenerate(request, globals.Call());
    std::atomic<bool> interrupted = false;
    interrupts.SetAction([&](int signal) {
      if (interrupted.exchange(true)) DieOf(signal);
      stream.Cancel();
    });
    status = Stream(stream, answer, printer);
    interrupts.SetAction(DieOf);
    if (interrupted && absl::IsCancelled(status)) {
      printer.End(answer);
      DieOf(SIGINT);
    }
  }
  const bool written = printer.End(answer);
  if (!status.ok()) return Fail(status);
  if (!written) return Fail(absl::DataLossError("cannot write the output"));
  if (flags.stats) std::fprintf(stderr, "%s\n", answer.StatsLine().c_str());
  return kExitOk;
}

}  // namespace

Verb AddGenerate(CLI::App& parent) {
  CLI::App* app =
      parent.add_subcommand("generate", "Continue a prompt; the text alone goes to standard output");
  auto flags = std::make_shared<GenerateFlags>();
  flags->prompt.AddTo(*app);
  flags->sampling.AddTo(*app);
  flags->request.AddTo(*app);
  app->add_flag("--stats", flags->stats, "Afterwards, on stderr: time to first token, tokens/s, usage");
  app->add_flag("--unary", flags->unary, "Wait for the whole answer instead of streaming it");
  return {app, [flags](const Globals& globals) { return Run(globals, *flags); }};
}

}  // namespace mambad::ctl
