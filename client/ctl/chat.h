// mambactl chat: a conversation that lives in a session on the server.
#ifndef MAMBAD_CLIENT_CTL_CHAT_H_
#define MAMBAD_CLIENT_CTL_CHAT_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddChat(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_CHAT_H_
