// PoolSlot: the exclusive right to one place of a pool, which gives itself back. Movable, not copyable. Must
// not outlive its pool.
#ifndef MAMBAD_ENGINE_SESSION_POOL_SLOT_H_
#define MAMBAD_ENGINE_SESSION_POOL_SLOT_H_

#include <cstdint>
#include <utility>

namespace mambad {

// Pool has a private Release(index), and this class as a friend.
template <class Pool>
class PoolSlot {
 public:
  PoolSlot() = default;  // holds nothing
  PoolSlot(PoolSlot&& other) noexcept
      : pool_(std::exchange(other.pool_, nullptr)), index_(std::exchange(other.index_, -1)) {}
  PoolSlot& operator=(PoolSlot&& other) noexcept {
    PoolSlot taken(std::move(other));
    std::swap(pool_, taken.pool_);
    std::swap(index_, taken.index_);
    return *this;
  }
  ~PoolSlot() {
    if (held()) pool_->Release(index_);
  }

  bool held() const { return pool_ != nullptr; }
  int32_t index() const { return index_; }  // REQUIRES: held()

 private:
  friend Pool;
  PoolSlot(Pool* pool, int32_t index) : pool_(pool), index_(index) {}

  Pool* pool_ = nullptr;
  int32_t index_ = -1;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_POOL_SLOT_H_
