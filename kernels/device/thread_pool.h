// A fixed set of workers for data-parallel loops. The calling thread is worker 0, so a pool of one thread
// starts none. Workers that have nothing to do spin for a few tens of microseconds (the gap between two
// ops of one forward pass), then sleep: an idle pool burns no CPU.
//
// Thread contract: one Run at a time (checked); Run may come from different threads one after the other.
#ifndef MAMBAD_KERNELS_DEVICE_THREAD_POOL_H_
#define MAMBAD_KERNELS_DEVICE_THREAD_POOL_H_

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <memory>
#include <mutex>
#include <thread>
#include <type_traits>
#include <vector>

namespace mambad::kernels {

// CPUs that this process may use: affinity mask and cgroup CPU quota (rounded up); at least 1.
int AvailableCpus();

// A half-open range of items.
struct Range {
  std::int64_t begin = 0;
  std::int64_t end = 0;
  std::int64_t size() const { return end - begin; }
};

// The items of [0, total) that `worker` of `workers` owns: contiguous, in worker order, boundaries at
// multiples of `unit` (the last one at `total`), sizes that differ by one unit at most.
Range Slice(std::int64_t total, std::int64_t unit, int worker, int workers);

class ThreadPool {
 public:
  static constexpr int kMaxThreads = 256;

  // 0 means AvailableCpus(); clamped to [1, kMaxThreads].
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const { return threads_; }

  // Calls fn(worker, workers) once on every worker and returns when all have returned; what they wrote is
  // then visible to the caller. `fn` must not throw and must not call Run.
  template <class Fn>
  void Run(Fn&& fn) {
    using Callable = std::remove_reference_t<Fn>;
    RunErased(
        [](void* context, int worker, int workers) { (*static_cast<Callable*>(context))(worker, workers); },
        const_cast<std::remove_const_t<Callable>*>(std::addressof(fn)));
  }

 private:
  using Function = void (*)(void* context, int worker, int workers);

  void RunErased(Function function, void* context);
  void WorkerMain(int worker);
  std::uint32_t AwaitJob(std::uint32_t seen);

  int threads_;
  bool spin_;
  Function function_ = nullptr;
  void* context_ = nullptr;
  std::atomic<bool> running_{false};
  bool stop_ = false;
  alignas(64) std::atomic<std::uint32_t> job_{0};  // bumped to publish function_, context_ or stop_
  alignas(64) std::atomic<int> unfinished_{0};     // workers of the current job that have not returned
  alignas(64) std::mutex mutex_;
  int sleepers_ = 0;            // guarded by mutex_
  bool caller_sleeps_ = false;  // guarded by mutex_
  std::condition_variable work_;
  std::condition_variable done_;
  std::vector<std::thread> workers_;
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_THREAD_POOL_H_
