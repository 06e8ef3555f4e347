#include "server/address.h"

#include <arpa/inet.h>

#include "absl/status/status.h"
#include "absl/strings/numbers.h"
#include "absl/strings/str_cat.h"

namespace mambad {

std::string Address::ToString() const {
  return host.find(':') == std::string::npos ? absl::StrCat(host, ":", port)
                                             : absl::StrCat("[", host, "]:", port);
}

bool Address::IsLoopback() const {
  if (host == "localhost" || host == "::1") return true;
  in_addr parsed;
  return inet_pton(AF_INET, host.c_str(), &parsed) == 1 && ntohl(parsed.s_addr) >> 24 == 127;
}

absl::StatusOr<Address> ParseAddress(std::string_view text) {
  const absl::Status wrong = absl::InvalidArgumentError("expected HOST:PORT, such as 127.0.0.1:50051");
  const size_t colon = text.rfind(':');
  if (colon == std::string_view::npos || colon == 0) return wrong;
  Address address;
  address.host = std::string(text.substr(0, colon));
  if (address.host.front() == '[') {
    if (address.host.size() < 3 || address.host.back() != ']') return wrong;
    address.host = address.host.substr(1, address.host.size() - 2);
  } else if (address.host.find(':') != std::string::npos) {
    return wrong;
  }
  if (!absl::SimpleAtoi(std::string(text.substr(colon + 1)), &address.port) || address.port < 0 ||
      address.port > 65535) {
    return wrong;
  }
  return address;
}

}  // namespace mambad
