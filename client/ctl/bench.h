// mambactl bench: so many streams at once, and how fast their tokens come.
#ifndef MAMBAD_CLIENT_CTL_BENCH_H_
#define MAMBAD_CLIENT_CTL_BENCH_H_

#include "client/ctl/globals.h"

namespace mambad::ctl {

Verb AddBench(CLI::App& parent);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_BENCH_H_
