// mambactl score: how likely the model finds a text.
#ifndef MAMBAD_CLIENT_CTL_SCORE_H_
#define MAMBAD_CLIENT_CTL_SCORE_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddScore(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_SCORE_H_
