// mambactl generate: one answer, streamed to standard output as text alone.
#ifndef MAMBAD_CLIENT_CTL_GENERATE_H_
#define MAMBAD_CLIENT_CTL_GENERATE_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddGenerate(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_GENERATE_H_
