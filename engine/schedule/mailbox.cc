#include "engine/schedule/mailbox.h"

#include <utility>

#include "kernels/base/check.h"

namespace mambad {

std::optional<RequestTicket> Mailbox::Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink,
                                             absl::Time now) {
  std::lock_guard lock(mu_);
  if (given_up_) return std::nullopt;
  const RequestTicket ticket = ++last_ticket_;
  open_.emplace(ticket, Open{.method = request.method, .sink = sink});
  commands_.push_back(SubmitCommand{
      .ticket = ticket, .request = std::move(request), .sink = std::move(sink), .accepted_at = now});
  awake_ = true;
  changed_.notify_one();
  return ticket;
}

bool Mailbox::PostVerb(Command&& command) {
  std::lock_guard lock(mu_);
  if (given_up_ || verbs_ >= kVerbsMax) return false;
  ++verbs_;
  commands_.push_back(std::move(command));
  awake_ = true;
  changed_.notify_one();
  return true;
}

void Mailbox::PostDrain(DrainCommand command) {
  std::lock_guard lock(mu_);
  commands_.push_back(std::move(command));
  awake_ = true;
  changed_.notify_one();
}

void Mailbox::Cancel(RequestTicket ticket, absl::Status status) {
  MAMBAD_CHECK(!status.ok());
  std::lock_guard lock(mu_);
  const auto open = open_.find(ticket);
  if (open == open_.end() || open->second.cancelled) return;
  open->second.cancelled = true;
  cancels_.push_back({.ticket = ticket, .status = std::move(status)});
  awake_ = true;
  changed_.notify_one();
}

void Mailbox::Wake() {
  std::lock_guard lock(mu_);
  awake_ = true;
  changed_.notify_one();
}

Mailbox::Taken Mailbox::TakeAll() {
  std::lock_guard lock(mu_);
  Taken taken;
  taken_.clear();
  for (const Command& command : commands_) {
    if (const auto* submit = std::get_if<SubmitCommand>(&command)) {
      open_.at(submit->ticket).taken = true;
    } else if (!std::holds_alternative<DrainCommand>(command)) {
      taken_.push_back(command);
    }
  }
  taken.commands.swap(commands_);
  taken.cancels.swap(cancels_);
  verbs_ = 0;
  awake_ = false;
  return taken;
}

bool Mailbox::awake() {
  std::lock_guard lock(mu_);
  return awake_;
}

bool Mailbox::Close(RequestTicket ticket) {
  std::lock_guard lock(mu_);
  const bool was_open = open_.erase(ticket) == 1;
  MAMBAD_CHECK(was_open || given_up_);
  return was_open;
}

void Mailbox::WaitUntil(absl::Time time) {
  std::unique_lock lock(mu_);
  const auto awake = [this] { return awake_; };
  if (time == absl::InfiniteFuture()) {
    changed_.wait(lock, awake);
  } else {
    changed_.wait_until(lock, absl::ToChronoTime(time), awake);
  }
}

Mailbox::GivenUp Mailbox::GiveUp() {
  std::lock_guard lock(mu_);
  given_up_ = true;
  GivenUp result;
  for (auto& [ticket, open] : open_) result.open.push_back(std::move(open));
  open_.clear();
  result.commands.swap(commands_);
  result.taken.swap(taken_);
  cancels_.clear();
  return result;
}

bool Mailbox::given_up() const {
  std::lock_guard lock(mu_);
  return given_up_;
}

}  // namespace mambad
