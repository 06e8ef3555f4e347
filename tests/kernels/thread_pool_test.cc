#include "kernels/device/thread_pool.h"

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <filesystem>
#include <fstream>
#include <set>
#include <string>
#include <thread>
#include <vector>

#include "gtest/gtest.h"

namespace mambad::kernels {
namespace {

TEST(ThreadPoolTest, RunsEveryWorkerOnceAndShowsTheirWrites) {
  for (int threads : {1, 2, 3, 4, 7}) {
    ThreadPool pool(threads);
    ASSERT_EQ(pool.threads(), threads);
    std::vector<std::int64_t> written(threads, 0);  // plain memory: Run must order it
    for (int job = 1; job <= 500; ++job) {
      pool.Run([&](int worker, int workers) {
        EXPECT_EQ(workers, threads);
        written[worker] += job;
      });
      for (int worker = 0; worker < threads; ++worker) ASSERT_EQ(written[worker], job * (job + 1) / 2);
    }
  }
}

TEST(ThreadPoolTest, TheCallerIsWorkerZero) {
  ThreadPool pool(3);
  std::vector<std::thread::id> ids(3);
  pool.Run([&](int worker, int) { ids[worker] = std::this_thread::get_id(); });
  EXPECT_EQ(ids[0], std::this_thread::get_id());
  EXPECT_EQ(std::set<std::thread::id>(ids.begin(), ids.end()).size(), 3u);
}

TEST(ThreadPoolTest, MayBeCalledFromOneThreadAfterAnother) {
  ThreadPool pool(2);
  std::atomic<int> calls = 0;
  for (int i = 0; i < 20; ++i) {
    std::thread caller([&] { pool.Run([&](int, int) { ++calls; }); });
    caller.join();
  }
  EXPECT_EQ(calls, 40);
}

// Threads of this process that are blocked in the kernel (state S), by /proc.
int BlockedThreads() {
  int blocked = 0;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "stat");
    std::string stat;
    std::getline(file, stat);
    const std::size_t name_end = stat.rfind(')');
    if (name_end != std::string::npos && stat.compare(name_end, 3, ") S") == 0) ++blocked;
  }
  return blocked;
}

TEST(ThreadPoolTest, IdleWorkersBlockAndAreWokenAgain) {
  ThreadPool pool(4);
  for (int job = 0; job < 20; ++job) {
    std::atomic<int> ran = 0;
    pool.Run([&](int, int) { ++ran; });
    ASSERT_EQ(ran, 4);
    // An idle worker that burned CPU would never be seen blocked, and this would run into the time limit.
    while (BlockedThreads() < 3) std::this_thread::yield();
  }
}

TEST(ThreadPoolTest, ClampsTheThreadCount) {
  EXPECT_EQ(ThreadPool(0).threads(), AvailableCpus());
  EXPECT_EQ(ThreadPool(-3).threads(), AvailableCpus());
  EXPECT_GE(AvailableCpus(), 1);
}

TEST(SliceTest, CoversAllItemsOnceInOrderAndEvenly) {
  for (std::int64_t total : {0, 1, 15, 16, 17, 80, 1000}) {
    for (std::int64_t unit : {1, 16, 32}) {
      for (int workers : {1, 2, 3, 4, 7}) {
        std::int64_t next = 0;
        std::int64_t fewest = total;
        std::int64_t most = 0;
        for (int worker = 0; worker < workers; ++worker) {
          const Range range = Slice(total, unit, worker, workers);
          ASSERT_EQ(range.begin, next);
          ASSERT_GE(range.size(), 0);
          ASSERT_TRUE(range.begin % unit == 0 || range.begin == total);
          next = range.end;
          const std::int64_t units = (range.size() + unit - 1) / unit;
          fewest = std::min(fewest, units);
          most = std::max(most, units);
        }
        ASSERT_EQ(next, total);
        ASSERT_LE(most - fewest, 1);
      }
    }
  }
}

}  // namespace
}  // namespace mambad::kernels
