// mambactl's command line: parses it, runs the verb, returns the exit code.
#ifndef MAMBAD_CLIENT_CTL_COMMAND_LINE_H_
#define MAMBAD_CLIENT_CTL_COMMAND_LINE_H_

namespace mambad::ctl {

int Main(int argc, const char* const* argv);

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_COMMAND_LINE_H_
