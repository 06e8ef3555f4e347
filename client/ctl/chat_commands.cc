#include "client/ctl/chat_commands.h"

#include <array>
#include <vector>

#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"
#include "absl/strings/str_join.h"
#include "absl/strings/str_split.h"
#include "client/ctl/fail.h"

namespace mambad::ctl {
namespace {

struct Context {
  Client& client;
  Conversation& conversation;
  SamplingFlags& sampling;
  std::vector<std::string> words;  // of the line; the command is the first

  std::string Argument() const { return words.size() > 1 ? words[1] : ""; }
};

std::string Where(const Conversation& conversation) {
  return absl::StrCat("in ", conversation.session(), ", position ", conversation.position());
}

std::string Done(const absl::Status& status, const Context& context) {
  return status.ok() ? Where(context.conversation) : ErrorLine(status);
}

std::string New(Context& context) { return Done(context.conversation.Open(context.Argument()), context); }

std::string Fork(Context& context) {
  const std::string source = context.conversation.session();
  const absl::Status status = context.conversation.Fork(context.Argument());
  if (!status.ok()) return ErrorLine(status);
  return absl::StrCat(Where(context.conversation), "; /switch ", source.substr(source.find('/') + 1),
                      " goes back");
}

std::string Switch(Context& context) {
  if (context.words.size() != 2) return "/switch wants the id of a session";
  return Done(context.conversation.Switch(context.words[1]), context);
}

std::string List(Context& context) {
  std::vector<std::string> lines;
  v1::ListSessionsRequest request;
  do {
    const auto page = context.client.ListSessions(request, context.conversation.options().call);
    if (!page.ok()) return ErrorLine(page.status());
    for (const v1::Session& session : page->sessions()) {
      lines.push_back(absl::StrCat(session.name() == context.conversation.session() ? "* " : "  ",
                                   session.name(), ", position ", session.position(), ", ",
                                   v1::Session::State_Name(session.state())));
    }
    request.set_page_token(page->next_page_token());
  } while (!request.page_token().empty());
  return absl::StrJoin(lines, "\n");
}

std::string Info(Context& context) {
  const auto session =
      context.client.GetSession(context.conversation.session(), context.conversation.options().call);
  if (!session.ok()) return ErrorLine(session.status());
  std::string text =
      absl::StrCat(session->name(), " of ", session->model(), "\nposition ", session->position(),
                   " tokens, state ", session->bytes(), " bytes (the same at every position)");
  if (!context.conversation.options().keep)
    absl::StrAppend(&text, "\n/keep keeps sessions opened here when you leave");
  return text;
}

std::string Keep(Context& context) {
  context.conversation.Keep();
  return "sessions opened here stay until they expire";
}

std::string Set(Context& context) {
  SamplingFlags& sampling = context.sampling;
  const std::vector<std::string>& words = context.words;
  float number = 0;
  uint64_t count = 0;
  if (words.size() == 3 && words[1] == "temperature" && absl::SimpleAtof(words[2], &number)) {
    sampling.temperature = number;
  } else if (words.size() == 3 && words[1] == "top-p" && absl::SimpleAtof(words[2], &number)) {
    sampling.top_p = number;
  } else if (words.size() == 3 && words[1] == "max-tokens" && absl::SimpleAtoi(words[2], &count) &&
             count <= UINT32_MAX) {
    sampling.max_tokens = static_cast<uint32_t>(count);
  } else if (words.size() == 3 && words[1] == "seed" && absl::SimpleAtoi(words[2], &count)) {
    sampling.seed = count;
  } else {
    return "/set wants temperature, top-p, max-tokens or seed, and a number";
  }
  return absl::StrCat(words[1], " is ", words[2]);
}

std::string Help(Context& context);

struct Command {
  const char* name;
  const char* arguments;
  const char* what;
  std::string (*run)(Context&);
};

constexpr std::array<Command, 8> kCommands = {{
    {"/help", "", "this list", Help},
    {"/info", "", "the session: its name, position and size", Info},
    {"/new", "[ID]", "open a new session and go on there", New},
    {"/fork", "[ID]", "copy the session and go on in the copy", Fork},
    {"/switch", "ID", "go on in another session", Switch},
    {"/list", "", "all sessions", List},
    {"/keep", "", "keep the sessions opened here", Keep},
    {"/set", "NAME N", "temperature, top-p, max-tokens or seed of the next answers", Set},
}};

std::string Help(Context&) {
  std::string text =
      "Type, and the model answers; each turn sends its new words alone, the session knows the rest.\n"
      "A base model does not answer: it continues the text. An empty line lets it go on.\n";
  for (const Command& command : kCommands) {
    std::string name = absl::StrCat("  ", command.name, " ", command.arguments);
    name.resize(std::max<size_t>(name.size(), 18), ' ');
    absl::StrAppend(&text, name, command.what, "\n");
  }
  return text + "  /quit           leave; also Ctrl-D. Ctrl-C stops an answer, twice at the prompt it leaves";
}

}  // namespace

CommandResult RunCommand(std::string_view line, Client& client, Conversation& conversation,
                         SamplingFlags& sampling) {
  Context context{client, conversation, sampling,
                  absl::StrSplit(std::string(line), absl::ByAnyChar(" \t"), absl::SkipEmpty())};
  if (context.words[0] == "/quit" || context.words[0] == "/exit") return {.message = "", .quit = true};
  for (const Command& command : kCommands) {
    if (context.words[0] == command.name) return {.message = command.run(context)};
  }
  return {.message = "no such command; /help lists them"};
}

}  // namespace mambad::ctl
