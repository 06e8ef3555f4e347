#include <signal.h>

#include "client/ctl/command_line.h"

int main(int argc, char** argv) {
  // As every filter: end quietly when the reader of the output has gone, whatever the parent process ignored.
  signal(SIGPIPE, SIG_DFL);
  return mambad::ctl::Main(argc, argv);
}
