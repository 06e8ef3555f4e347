#include "client/ctl/globals.h"

namespace mambad::ctl {

CallOptions Globals::Call() const {
  CallOptions options;
  if (timeout_s > 0) options.timeout = absl::Seconds(timeout_s);
  return options;
}

absl::StatusOr<Client> Globals::Connect() const {
  ClientOptions options;
  options.user_agent = "mambactl";
  if (timeout_s > 0) options.connect_timeout = std::min(options.connect_timeout, absl::Seconds(timeout_s));
  return Client::Connect(server, options);
}

}  // namespace mambad::ctl
