#include "kernels/device/work_queue.h"

#include <cstdint>
#include <vector>

#include "gtest/gtest.h"

namespace mambad::kernels {
namespace {

TEST(WorkQueueTest, DealsOutEveryItemOnceInOrderAndInUnitsUntilTheEnd) {
  for (std::int64_t total : {0, 1, 5, 16, 48, 3143}) {
    for (std::int64_t unit : {1, 4}) {
      for (int workers : {1, 2, 5}) {
        WorkQueue queue(total, unit, workers);
        std::int64_t next = 0;
        std::int64_t last_size = total;
        for (Range piece = queue.Take(); piece.size() > 0; piece = queue.Take()) {
          ASSERT_EQ(piece.begin, next);
          ASSERT_LE(piece.size(), last_size);  // large pieces first
          ASSERT_TRUE(workers == 1 || piece.size() <= unit || piece.size() % unit == 0);
          next = piece.end;
          last_size = piece.size();
        }
        ASSERT_EQ(next, total);
        ASSERT_EQ(queue.Take().size(), 0);
        ASSERT_TRUE(workers == 1 || total == 0 || last_size == 1);
      }
    }
  }
}

TEST(WorkQueueTest, WorkersTakeDisjointPieces) {
  constexpr std::int64_t kTotal = 100'000;
  ThreadPool pool(4);
  WorkQueue queue(kTotal, 1, 4);
  std::vector<int> taken(kTotal, 0);
  pool.Run([&](int, int) {
    for (Range piece = queue.Take(); piece.size() > 0; piece = queue.Take()) {
      for (std::int64_t i = piece.begin; i < piece.end; ++i) ++taken[i];
    }
  });
  for (std::int64_t i = 0; i < kTotal; ++i) ASSERT_EQ(taken[i], 1);
}

}  // namespace
}  // namespace mambad::kernels
