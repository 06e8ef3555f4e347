// Server: the two ports and what answers on them. It listens before the model is there (health NOT_SERVING,
// /readyz 503, calls UNAVAILABLE), serves once it has one, and drains before it ends.
//
// Threads: one thread calls these; requests come on gRPC's and the HTTP port's own.
#ifndef MAMBAD_SERVER_SERVER_H_
#define MAMBAD_SERVER_SERVER_H_

#include <functional>
#include <memory>
#include <string>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "server/address.h"
#include "server/serving.h"

namespace mambad {

struct ServerOptions {
  Address grpc_address;
  Address http_address;
  std::string model_id;
  absl::Duration default_deadline = absl::Minutes(10);  // zero: none
};

class Server {
 public:
  // UNAVAILABLE when an address cannot be had.
  static absl::StatusOr<std::unique_ptr<Server>> Listen(const ServerOptions& options);
  // REQUIRES: ShutDown was called, or nothing runs.
  ~Server();
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // With the ports that were bound.
  const Address& grpc_address() const;
  const Address& http_address() const;

  // From now on the engine's answers are given; health says SERVING. The engine was started.
  void Serve(std::shared_ptr<const Serving> serving);

  // Health says NOT_SERVING; the engine accepts nothing new, what runs may finish until `deadline`. `drained`
  // is called once, on any thread.
  void Drain(absl::Time deadline, std::function<void()> drained);
  // Whether a generation call has not had its status yet: it lags behind the engine's end of the request.
  bool HasOpenCalls() const;
  // The device was lost: health says NOT_SERVING, /healthz 503, and every call that is open gets its status,
  // whether or not the device still answers.
  void MarkUnhealthy();

  // Ends every call that is still open at `deadline` and waits for them. May hang when gRPC does: the caller
  // has a watchdog.
  void ShutDown(absl::Time deadline);
  // After ShutDown: closes the HTTP port. Waits for the requests that are being read, so a slow client may
  // hold it.
  void CloseHttp();

 private:
  struct Parts;
  explicit Server(std::unique_ptr<Parts> parts);
  void SetServing(bool serving);

  std::unique_ptr<Parts> parts_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_SERVER_H_
