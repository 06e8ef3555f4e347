// ExpiryIndex: keys in order of the time at which something is due for them. At most one time per key.
//
// Threads: not synchronized.
#ifndef MAMBAD_ENGINE_SESSION_EXPIRY_INDEX_H_
#define MAMBAD_ENGINE_SESSION_EXPIRY_INDEX_H_

#include <map>
#include <optional>
#include <set>
#include <utility>

#include "absl/time/time.h"

namespace mambad {

template <class Key>
class ExpiryIndex {
 public:
  // Replaces the key's time. InfiniteFuture means never, and is not kept.
  void Set(const Key& key, absl::Time due) {
    Erase(key);
    if (due == absl::InfiniteFuture()) return;
    times_.emplace(key, due);
    order_.emplace(due, key);
  }

  void Erase(const Key& key) {
    const auto entry = times_.find(key);
    if (entry == times_.end()) return;
    order_.erase({entry->second, key});
    times_.erase(entry);
  }

  // InfiniteFuture when nothing is due ever.
  absl::Time Earliest() const { return order_.empty() ? absl::InfiniteFuture() : order_.begin()->first; }

  // Takes out the earliest key that is due at `now`, if any.
  std::optional<Key> PopDue(absl::Time now) {
    if (order_.empty() || order_.begin()->first > now) return std::nullopt;
    Key key = order_.begin()->second;
    Erase(key);
    return key;
  }

 private:
  std::map<Key, absl::Time> times_;
  std::set<std::pair<absl::Time, Key>> order_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SESSION_EXPIRY_INDEX_H_
