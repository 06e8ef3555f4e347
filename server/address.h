// A TCP address to listen on, as flags spell it: "127.0.0.1:50051", "localhost:0", "[::1]:8002".
#ifndef MAMBAD_SERVER_ADDRESS_H_
#define MAMBAD_SERVER_ADDRESS_H_

#include <string>
#include <string_view>

#include "absl/status/statusor.h"

namespace mambad {

struct Address {
  std::string host;  // without brackets
  int port = 0;      // 0: any free one

  // "host:port", an IPv6 host in brackets.
  std::string ToString() const;
  // Whether only this machine can reach it.
  bool IsLoopback() const;
};

// INVALID_ARGUMENT when `text` is no host:port. Names are not looked up.
absl::StatusOr<Address> ParseAddress(std::string_view text);

}  // namespace mambad

#endif  // MAMBAD_SERVER_ADDRESS_H_
