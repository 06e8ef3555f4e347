// Backend: what all services share: the model being served (none while it loads), the pool that tokenizes
// long texts, and the thread that turns events into writes, so that neither gRPC's threads nor the engine's
// wait.
//
// Threads: any.
#ifndef MAMBAD_SERVER_BACKEND_H_
#define MAMBAD_SERVER_BACKEND_H_

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>

#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "grpcpp/server_context.h"
#include "server/serving.h"
#include "server/worker_pool.h"

namespace mambad {

// A text of at most this many bytes is tokenized at once, on the thread that received it.
inline constexpr size_t kInlineTextBytes = 4096;
// gRPC's own limit of one received message.
inline constexpr int kReceiveMessageBytes = 4 << 20;

class Backend {
 public:
  // `default_deadline`: of calls whose client set none; zero: none.
  explicit Backend(absl::Duration default_deadline);

  // UNAVAILABLE (LOADING) until Publish was called.
  absl::StatusOr<std::shared_ptr<const Serving>> serving() const;
  void Publish(std::shared_ptr<const Serving> serving);

  // When a call must have ended.
  absl::Time DeadlineOf(const grpc::CallbackServerContext& context) const;

  // False when too many long texts wait already.
  [[nodiscard]] bool PostTokenizing(std::function<void()> job) { return tokenizing_.TryPost(std::move(job)); }

  // Runs `job` on the delivery thread, after the jobs before it. When its queue is full the caller's thread
  // does the work: late, but nothing is lost.
  void Deliver(const std::function<void()>& job);

  // Generation calls whose status gRPC has not sent yet.
  int open_calls() const { return open_calls_.load(); }
  void CallOpened() { open_calls_.fetch_add(1); }
  void CallClosed() { open_calls_.fetch_sub(1); }

  absl::Time start_time() const { return start_time_; }

 private:
  const absl::Duration default_deadline_;
  const absl::Time start_time_;
  std::atomic<int> open_calls_{0};
  mutable std::mutex mu_;
  std::shared_ptr<const Serving> serving_;  // guarded by mu_
  WorkerPool tokenizing_;
  WorkerPool delivery_;
};

// The refusal for a text that finds no room in the tokenizing queue.
absl::Status TokenizingQueueFull();

}  // namespace mambad

#endif  // MAMBAD_SERVER_BACKEND_H_
