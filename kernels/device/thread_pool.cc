#include "kernels/device/thread_pool.h"

#include <sched.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <string>

#include "kernels/base/check.h"

namespace mambad::kernels {
namespace {

using Clock = std::chrono::steady_clock;

// Longer than any serial stretch between two ops of a forward pass, shorter than a scheduler quantum.
constexpr auto kSpinTime = std::chrono::microseconds(50);
constexpr int kPausesPerClockRead = 32;

void Pause() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

// Spins until `ready()` or until the spin time is over; returns what `ready()` said last.
template <class Ready>
bool SpinUntil(bool spin, Ready ready) {
  if (ready()) return true;
  if (!spin) return false;
  const auto deadline = Clock::now() + kSpinTime;
  do {
    for (int i = 0; i < kPausesPerClockRead; ++i) {
      if (ready()) return true;
      Pause();
    }
  } while (Clock::now() < deadline);
  return ready();
}

int AffinityCpus() {
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof(set), &set) == 0) return std::max(1, CPU_COUNT(&set));
  return std::max(1u, std::thread::hardware_concurrency());
}

// cgroup v2 "quota period" or "max period"; 0 when there is no limit.
int CgroupCpus() {
  std::ifstream file("/sys/fs/cgroup/cpu.max");
  std::string quota;
  double period = 0;
  if (!(file >> quota >> period) || quota == "max" || period <= 0) return 0;
  char* end = nullptr;
  const double value = std::strtod(quota.c_str(), &end);
  if (end == quota.c_str() || !(value > 0)) return 0;
  return static_cast<int>(std::clamp(std::ceil(value / period), 1.0, double{ThreadPool::kMaxThreads}));
}

}  // namespace

int AvailableCpus() {
  const int affinity = AffinityCpus();
  const int quota = CgroupCpus();
  return quota > 0 ? std::min(affinity, quota) : affinity;
}

Range Slice(std::int64_t total, std::int64_t unit, int worker, int workers) {
  MAMBAD_DCHECK(total >= 0 && unit > 0 && worker >= 0 && worker < workers);
  const std::int64_t units = (total + unit - 1) / unit;
  const std::int64_t base = units / workers;
  const std::int64_t extra = units % workers;
  const std::int64_t first = worker * base + std::min<std::int64_t>(worker, extra);
  const std::int64_t last = first + base + (worker < extra ? 1 : 0);
  return {std::min(first * unit, total), std::min(last * unit, total)};
}

ThreadPool::ThreadPool(int threads)
    : threads_(std::clamp(threads > 0 ? threads : AvailableCpus(), 1, kMaxThreads)),
      // With more workers than CPUs a spinning worker would keep a working one off its CPU.
      spin_(threads_ <= AvailableCpus()) {
  workers_.reserve(threads_ - 1);
  for (int worker = 1; worker < threads_; ++worker)
    workers_.emplace_back([this, worker] { WorkerMain(worker); });
}

ThreadPool::~ThreadPool() {
  {
    std::lock_guard lock(mutex_);
    stop_ = true;
    job_.fetch_add(1, std::memory_order_release);
  }
  work_.notify_all();
  for (std::thread& worker : workers_) worker.join();
}

void ThreadPool::RunErased(Function function, void* context) {
  MAMBAD_CHECK(!running_.exchange(true, std::memory_order_acquire));
  if (threads_ > 1) {
    function_ = function;
    context_ = context;
    unfinished_.store(threads_ - 1, std::memory_order_relaxed);
    job_.fetch_add(1, std::memory_order_seq_cst);
    bool wake;
    {
      std::lock_guard lock(mutex_);
      wake = sleepers_ > 0;
    }
    if (wake) work_.notify_all();
  }
  function(context, 0, threads_);
  const auto finished = [this] { return unfinished_.load(std::memory_order_acquire) == 0; };
  if (threads_ > 1 && !SpinUntil(spin_, finished)) {
    std::unique_lock lock(mutex_);
    caller_sleeps_ = true;
    done_.wait(lock, finished);
    caller_sleeps_ = false;
  }
  running_.store(false, std::memory_order_release);
}

// Returns the number of the first job after `seen`.
std::uint32_t ThreadPool::AwaitJob(std::uint32_t seen) {
  const auto published = [this, seen] { return job_.load(std::memory_order_acquire) != seen; };
  if (!SpinUntil(spin_, published)) {
    std::unique_lock lock(mutex_);
    ++sleepers_;
    work_.wait(lock, published);
    --sleepers_;
  }
  return job_.load(std::memory_order_acquire);
}

void ThreadPool::WorkerMain(int worker) {
  std::uint32_t seen = 0;
  while (true) {
    seen = AwaitJob(seen);
    if (stop_) return;
    function_(context_, worker, threads_);
    if (unfinished_.fetch_sub(1, std::memory_order_acq_rel) == 1) {
      std::lock_guard lock(mutex_);
      if (caller_sleeps_) done_.notify_one();
    }
  }
}

}  // namespace mambad::kernels
