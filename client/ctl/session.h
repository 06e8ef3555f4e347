// mambactl session: list, get, create, delete, append, fork.
#ifndef MAMBAD_CLIENT_CTL_SESSION_H_
#define MAMBAD_CLIENT_CTL_SESSION_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddSession(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_SESSION_H_
