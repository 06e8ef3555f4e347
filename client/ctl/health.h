// mambactl health: whether the server takes requests, as exit code.
#ifndef MAMBAD_CLIENT_CTL_HEALTH_H_
#define MAMBAD_CLIENT_CTL_HEALTH_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddHealth(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_HEALTH_H_
