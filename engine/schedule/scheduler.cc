#include "engine/schedule/scheduler.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "kernels/base/check.h"

namespace mambad {

void Scheduler::Enqueue(const WaitingRequest& request) {
  const bool is_new =
      queue_.emplace(KeyOf(request), Entry{.ticket = request.ticket, .slots = request.slots}).second;
  MAMBAD_CHECK(is_new);
  waiting_slots_ += request.slots;
}

void Scheduler::Remove(const WaitingRequest& request) {
  const auto entry = queue_.find(KeyOf(request));
  MAMBAD_CHECK(entry != queue_.end());
  waiting_slots_ -= entry->second.slots;
  queue_.erase(entry);
}

Scheduler::Admission Scheduler::Admit(uint32_t free_slots, uint32_t slots_to_share) {
  Admission result;
  Entry* first_blocked = nullptr;
  for (auto next = queue_.begin(); next != queue_.end();) {
    Entry& entry = next->second;
    const bool possible = entry.slots <= slots_to_share;
    const bool reserved =
        first_blocked != nullptr && first_blocked->overtaken >= kOvertakesMax && entry.slots > 0;
    if (possible && (entry.slots > free_slots || reserved)) {
      if (first_blocked == nullptr) first_blocked = &entry;
      ++next;
      continue;
    }
    if (possible) {
      free_slots -= entry.slots;
      if (first_blocked != nullptr && entry.slots > 0) ++first_blocked->overtaken;
    }
    (possible ? result.admitted : result.refused).push_back(entry.ticket);
    waiting_slots_ -= entry.slots;
    next = queue_.erase(next);
  }
  return result;
}

bool Scheduler::TakeSlotForSession(uint32_t free_slots) {
  if (free_slots == 0) return false;
  // Requests that need no slot never wait longer than a tick, so the first that needs one is the blocked one.
  const auto first = std::find_if(queue_.begin(), queue_.end(),
                                  [](const auto& waiting) { return waiting.second.slots > 0; });
  if (first == queue_.end()) return true;
  if (first->second.overtaken >= kOvertakesMax) return false;
  ++first->second.overtaken;
  return true;
}

std::vector<uint32_t> PlanDecode(std::span<const ReadyRow> ready, uint32_t rows_max) {
  std::vector<ReadyRow> rows(ready.begin(), ready.end());
  if (rows.size() > rows_max) {
    std::stable_sort(rows.begin(), rows.end(),
                     [](const ReadyRow& a, const ReadyRow& b) { return a.last_planned < b.last_planned; });
    rows.resize(rows_max);
  }
  std::vector<uint32_t> ids;
  ids.reserve(rows.size());
  for (const ReadyRow& row : rows) ids.push_back(row.id);
  return ids;
}

uint32_t PromptBudget(uint32_t budget, uint32_t affordable) {
  return std::max({1u, std::min(budget, affordable), budget / 8});
}

void TokenRate::Observe(uint32_t tokens, absl::Duration wall) {
  if (tokens == 0) return;
  constexpr double kKept = 0.75;
  tokens_ = kKept * tokens_ + tokens;
  seconds_ = kKept * seconds_ + absl::ToDoubleSeconds(wall);
}

uint32_t TokenRate::TokensIn(absl::Duration wall) const {
  if (wall == absl::InfiniteDuration()) return UINT32_MAX;
  if (seconds_ <= 0) return 0;
  const double tokens = absl::ToDoubleSeconds(wall) * tokens_ / seconds_;
  return tokens < static_cast<double>(UINT32_MAX) ? static_cast<uint32_t>(tokens) : UINT32_MAX;
}

void PartTime::Observe(uint32_t tokens, uint32_t parts, absl::Duration wall) {
  MAMBAD_CHECK(tokens > 0 && parts > 0);
  tokens_ = tokens;
  part_ = wall / parts;
}

absl::Duration PartTime::Expect(uint32_t tokens) const {
  if (tokens <= tokens_ || tokens_ == 0) return part_;
  return part_ * (static_cast<double>(tokens) / tokens_);
}

uint32_t PlanParts(uint32_t left, absl::Duration part, absl::Duration time) {
  constexpr double kExcess = 0.25;
  if (time >= part * left) return left;
  if (part == absl::InfiniteDuration()) return 1;
  const double ticks = std::ceil(absl::FDivDuration(part * left, time) - kExcess);
  return static_cast<uint32_t>(std::ceil(left / std::clamp(ticks, 1.0, static_cast<double>(left))));
}

std::vector<uint32_t> PlanPrompts(std::span<const uint64_t> remaining, uint32_t budget) {
  std::vector<uint32_t> shares(remaining.size(), 0);
  if (remaining.empty()) return shares;
  uint64_t left = budget;
  const auto give = [&](size_t prompt, uint64_t tokens) {
    const uint64_t share = std::min({tokens, left, remaining[prompt] - shares[prompt]});
    shares[prompt] += static_cast<uint32_t>(share);
    left -= share;
  };
  give(0, (uint64_t{budget} + 1) / 2);
  std::vector<size_t> shortest_first(remaining.size() - 1);
  std::iota(shortest_first.begin(), shortest_first.end(), size_t{1});
  std::stable_sort(shortest_first.begin(), shortest_first.end(),
                   [&](size_t a, size_t b) { return remaining[a] < remaining[b]; });
  for (const size_t prompt : shortest_first) give(prompt, left);
  give(0, left);
  return shares;
}

}  // namespace mambad
