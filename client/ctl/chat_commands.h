// The slash commands of mambactl chat.
#ifndef MAMBAD_CLIENT_CTL_CHAT_COMMANDS_H_
#define MAMBAD_CLIENT_CTL_CHAT_COMMANDS_H_

#include <string>
#include <string_view>

#include "client/client.h"
#include "client/ctl/conversation.h"
#include "client/ctl/generation_flags.h"

namespace mambad::ctl {

struct CommandResult {
  std::string message;  // for the user, lines without a newline at the end
  bool quit = false;
};

// Runs `line`, which starts with '/'. Errors are messages: a wrong command ends nothing.
CommandResult RunCommand(std::string_view line, Client& client, Conversation& conversation,
                         SamplingFlags& sampling);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_CHAT_COMMANDS_H_
