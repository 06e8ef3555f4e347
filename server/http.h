// The HTTP port: /metrics, /healthz (the process is well) and /readyz (it takes requests). Plain HTTP/1.1 for
// scrapers and probes on the same network; nothing else is answered.
//
// Bounds: a few threads, a bounded queue of connections in front of them, short timeouts, no request bodies.
//
// Threads: handlers run on the port's own threads.
#ifndef MAMBAD_SERVER_HTTP_H_
#define MAMBAD_SERVER_HTTP_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "server/address.h"

namespace mambad {

struct HttpHandlers {
  std::function<std::string()> metrics;
  std::function<bool()> healthy;
  std::function<bool()> ready;
};

class HttpPort {
 public:
  // Listens. UNAVAILABLE when the address cannot be had.
  static absl::StatusOr<std::unique_ptr<HttpPort>> Listen(const Address& address, HttpHandlers handlers);
  // Stops listening and waits for the answers under way.
  ~HttpPort();
  HttpPort(const HttpPort&) = delete;
  HttpPort& operator=(const HttpPort&) = delete;

  // With the port that was bound.
  const Address& address() const { return address_; }

 private:
  struct Parts;
  HttpPort(Address address, std::unique_ptr<Parts> parts);

  Address address_;
  std::unique_ptr<Parts> parts_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_HTTP_H_
