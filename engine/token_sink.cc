#include "engine/token_sink.h"

#include <algorithm>
#include <utility>

#include "kernels/base/check.h"

namespace mambad {
namespace {

bool IsBounded(const TokenEvent& event) {
  return std::holds_alternative<DeltaEvent>(event) || std::holds_alternative<PromptLogprobsEvent>(event);
}

}  // namespace

TokenSink::TokenSink(size_t capacity, std::function<void()> on_ready)
    : on_ready_(std::move(on_ready)), capacity_(capacity) {
  MAMBAD_CHECK(capacity > 0);
}

void TokenSink::Attach(size_t events_per_tick, std::function<void()> on_room) {
  std::lock_guard lock(mu_);
  MAMBAD_CHECK(!on_room_ && events_.empty());
  capacity_ = std::max(capacity_, events_per_tick);
  on_room_ = std::move(on_room);
}

bool TokenSink::HasRoom(size_t events) {
  std::lock_guard lock(mu_);
  MAMBAD_CHECK(events <= capacity_);
  const bool room = bounded_ + events <= capacity_;
  wanted_ = room ? 0 : events;
  return room;
}

void TokenSink::Push(TokenEvent event) {
  bool was_empty = false;
  {
    std::lock_guard lock(mu_);
    if (given_up_) return;
    was_empty = Append(std::move(event));
  }
  if (was_empty && on_ready_) on_ready_();
}

void TokenSink::GiveUp(EndEvent end) {
  bool was_empty = false;
  {
    std::lock_guard lock(mu_);
    was_empty = Append(std::move(end));
    given_up_ = true;
  }
  if (was_empty && on_ready_) on_ready_();
}

bool TokenSink::Append(TokenEvent event) {
  MAMBAD_CHECK(!ended_);
  if (IsBounded(event)) {
    MAMBAD_CHECK(bounded_ < capacity_);
    ++bounded_;
  }
  ended_ = std::holds_alternative<EndEvent>(event);
  if (ended_) on_room_ = nullptr;
  const bool was_empty = events_.empty();
  events_.push_back(std::move(event));
  return was_empty;
}

std::optional<TokenEvent> TokenSink::Pop() {
  std::optional<TokenEvent> event;
  std::function<void()> on_room;
  {
    std::lock_guard lock(mu_);
    if (events_.empty()) return std::nullopt;
    event = std::move(events_.front());
    events_.pop_front();
    if (IsBounded(*event)) --bounded_;
    if (wanted_ > 0 && bounded_ + wanted_ <= capacity_) {
      wanted_ = 0;
      on_room = on_room_;
    }
  }
  if (on_room) on_room();
  return event;
}

}  // namespace mambad
