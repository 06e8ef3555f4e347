// Deals out items [0, total) to the workers of one ThreadPool::Run, in order, large pieces first. For work
// that is long enough that a worker may lose its CPU meanwhile: the others then take over its share. Which
// worker gets which item is not deterministic, so results must not depend on it.
#ifndef MAMBAD_KERNELS_DEVICE_WORK_QUEUE_H_
#define MAMBAD_KERNELS_DEVICE_WORK_QUEUE_H_

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "kernels/device/thread_pool.h"

namespace mambad::kernels {

class WorkQueue {
 public:
  // Pieces shrink to one item, and are multiples of `unit` (>= 1) as long as they are larger than that.
  WorkQueue(std::int64_t total, std::int64_t unit, int workers)
      : total_(total), unit_(unit), workers_(workers) {}

  // The next piece; an empty range when all is dealt out. Safe on any thread.
  Range Take() {
    std::int64_t begin = next_.load(std::memory_order_relaxed);
    while (begin < total_) {
      const std::int64_t end = begin + Piece(total_ - begin);
      if (next_.compare_exchange_weak(begin, end, std::memory_order_relaxed)) return {begin, end};
    }
    return {total_, total_};
  }

 private:
  // Half of an even share of what is left, so that the last pieces are small.
  std::int64_t Piece(std::int64_t left) const {
    if (workers_ == 1) return left;
    const std::int64_t share = std::max<std::int64_t>(1, left / (2 * workers_));
    return share > unit_ ? share / unit_ * unit_ : share;
  }

  const std::int64_t total_;
  const std::int64_t unit_;
  const int workers_;
  alignas(64) std::atomic<std::int64_t> next_{0};
};

}  // namespace mambad::kernels

#endif  // MAMBAD_KERNELS_DEVICE_WORK_QUEUE_H_
