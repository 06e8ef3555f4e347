// WorkerPool: a few threads and a bounded queue of jobs. It carries what must not run on a gRPC callback or
// the engine's thread: long tokenizing, and turning events into stream writes.
//
// Threads: any. Jobs run in order of arrival; with one thread, one after the other.
#ifndef MAMBAD_SERVER_WORKER_POOL_H_
#define MAMBAD_SERVER_WORKER_POOL_H_

#include <condition_variable>
#include <cstddef>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace mambad {

class WorkerPool {
 public:
  // REQUIRES: threads > 0, capacity > 0.
  WorkerPool(int threads, size_t capacity);
  // Runs what waits, then stops.
  ~WorkerPool();
  WorkerPool(const WorkerPool&) = delete;
  WorkerPool& operator=(const WorkerPool&) = delete;

  // False, and the job is dropped, when `capacity` jobs wait already.
  [[nodiscard]] bool TryPost(std::function<void()> job);

 private:
  void Run();

  const size_t capacity_;
  std::mutex mu_;
  std::condition_variable wake_;
  std::deque<std::function<void()>> jobs_;  // guarded by mu_
  bool stopping_ = false;                   // guarded by mu_
  std::vector<std::thread> threads_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_WORKER_POOL_H_
