#include "server/http.h"

#include <sys/socket.h>

#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/strings/str_cat.h"
#include "httplib.h"

namespace mambad {
namespace {

// More than a scraper and two probes need, so that a few slow readers do not silence them.
constexpr int kThreads = 16;
constexpr size_t kWaitingConnectionsMax = 64;
constexpr int kReadSeconds = 5;
constexpr int kWriteSeconds = 5;
constexpr int kIdleSeconds = 5;
constexpr size_t kRequestsPerConnection = 100;
constexpr size_t kBodyBytesMax = 1024;
constexpr char kMetricsType[] = "text/plain; version=0.0.4; charset=utf-8";

// A full queue holds up accepting, so further connections wait in the kernel's bounded backlog. (httplib's
// own pool queues without bound, and a job that it drops leaks its socket.)
class BoundedQueue final : public httplib::TaskQueue {
 public:
  BoundedQueue() {
    for (int i = 0; i < kThreads; ++i) threads_.emplace_back([this] { Run(); });
  }

  void enqueue(std::function<void()> job) override {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [this] { return stopping_ || jobs_.size() < kWaitingConnectionsMax; });
    jobs_.push_back(std::move(job));
    changed_.notify_all();
  }

  void shutdown() override {
    {
      const std::lock_guard lock(mu_);
      stopping_ = true;
      changed_.notify_all();
    }
    for (std::thread& thread : threads_) thread.join();
  }

 private:
  void Run() {
    for (;;) {
      std::function<void()> job;
      {
        std::unique_lock lock(mu_);
        changed_.wait(lock, [this] { return stopping_ || !jobs_.empty(); });
        if (jobs_.empty()) return;
        job = std::move(jobs_.front());
        jobs_.pop_front();
        changed_.notify_all();
      }
      job();
    }
  }

  std::mutex mu_;
  std::condition_variable changed_;
  std::deque<std::function<void()>> jobs_;  // guarded by mu_
  bool stopping_ = false;                   // guarded by mu_
  std::vector<std::thread> threads_;
};

void SetHandlers(HttpHandlers handlers, httplib::Server* server) {
  server->Get("/metrics",
              [metrics = std::move(handlers.metrics)](const httplib::Request&, httplib::Response& response) {
                response.set_content(metrics(), kMetricsType);
              });
  const auto probe = [](std::function<bool()> good, const char* yes, const char* no) {
    return [good = std::move(good), yes, no](const httplib::Request&, httplib::Response& response) {
      const bool is_good = good();
      response.status = is_good ? 200 : 503;
      response.set_content(is_good ? yes : no, "text/plain");
    };
  };
  server->Get("/healthz", probe(std::move(handlers.healthy), "ok\n", "device lost\n"));
  server->Get("/readyz", probe(std::move(handlers.ready), "ready\n", "not ready\n"));
}

}  // namespace

struct HttpPort::Parts {
  httplib::Server server;
  std::thread thread;
};

HttpPort::HttpPort(Address address, std::unique_ptr<Parts> parts)
    : address_(std::move(address)), parts_(std::move(parts)) {}

absl::StatusOr<std::unique_ptr<HttpPort>> HttpPort::Listen(const Address& address, HttpHandlers handlers) {
  auto parts = std::make_unique<Parts>();
  httplib::Server& server = parts->server;
  server.new_task_queue = [] { return new BoundedQueue; };
  // Without SO_REUSEPORT, which httplib would set: two servers must not share a port.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.set_read_timeout(kReadSeconds);
  server.set_write_timeout(kWriteSeconds);
  server.set_keep_alive_timeout(kIdleSeconds);
  server.set_keep_alive_max_count(kRequestsPerConnection);
  server.set_payload_max_length(kBodyBytesMax);
  SetHandlers(std::move(handlers), &server);

  Address bound = address;
  if (address.port == 0) {
    bound.port = server.bind_to_any_port(address.host);
  } else if (!server.bind_to_port(address.host, address.port)) {
    bound.port = -1;
  }
  if (bound.port < 0) {
    return absl::UnavailableError(absl::StrCat("cannot listen on ", address.ToString(), " for HTTP"));
  }
  parts->thread = std::thread([&server] { server.listen_after_bind(); });
  return std::unique_ptr<HttpPort>(new HttpPort(std::move(bound), std::move(parts)));
}

HttpPort::~HttpPort() {
  // stop() is lost on a server that has not begun to accept.
  while (!parts_->server.is_running()) std::this_thread::yield();
  parts_->server.stop();
  parts_->thread.join();
}

}  // namespace mambad
