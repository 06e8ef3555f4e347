// Running one decode step ahead of the host.
//
// A step is planned before anybody has seen the tokens of the one under way, so its rows consume them as
// kDrawnToken, and what they turn out to be is met in three ways:
//   an end-of-sequence or stop id    the device retires the row, which then consumes nothing
//   the last token by its number     the host knows: no row, or a session's closing one, which draws nothing
//   the end of a stop string         the row has consumed the token, as a closing step would have; what it
//                                    drew is dropped
// A row whose request or candidate ended meanwhile is stale: its result means nothing.
#include <algorithm>
#include <utility>

#include "engine/schedule/engine_loop.h"
#include "kernels/base/check.h"

namespace mambad {

// Delivers the tokens of the step under way, and returns how many rows it advanced. With `follow` the next
// step is launched first, if it may be.
uint32_t EngineLoop::CollectStep(bool follow) {
  const Step step = *std::exchange(step_, std::nullopt);
  worked_ = true;
  if (follow && MayFollow(step) && !LaunchFollowing(step)) return 0;
  if (absl::Status status = model_.Collect(&results_); !status.ok()) {
    LoseDevice(status);
    return 0;
  }
  const absl::Duration wall = step.timer.Elapsed();
  if (step_) step_->timer = WallTimer(wall_clock_);
  return DeliverDecode(step.rows, wall);
}

// Whether the same rows may go on before this tick has looked at anything else.
bool EngineLoop::MayFollow(const Step& step) {
  if (model_.launches_max() < 2 || stopping_ || drain_deadline_ || !prompts_.empty() || mailbox_.awake())
    return false;
  if (std::min({timers_.Earliest(), queue_timers_.Earliest(), sessions_.NextExpiry()}) <= now_) return false;
  if (scheduler_.size() > 0 && pool_->free() > 0) return false;
  // Everything that could decode is in the step, and its reader can take one more token.
  size_t live = 0;
  for (OpenRequest* request : decoding_) {
    if (request->paused()) continue;
    const auto candidates = static_cast<size_t>(
        std::ranges::count_if(request->candidates, [](const Candidate& each) { return !each.ended(); }));
    live += request->closing ? 1 : candidates;
    if (!request->closing && !request->sink->HasRoom(2 * candidates)) return false;
  }
  return live == static_cast<size_t>(
                     std::ranges::count_if(step.rows, [this](const Row& row) { return !IsStale(row); }));
}

bool EngineLoop::IsStale(const Row& row) const {
  return row.request->ended || (row.request->candidates[row.candidate].ended() && !row.request->closing);
}

// False when the device failed.
bool EngineLoop::LaunchFollowing(const Step& step) {
  batch_.Clear();
  batch_.stop_offsets.push_back(0);
  std::vector<Row> rows;
  for (const Row& row : step.rows) {
    if (IsStale(row) || row.request->closing) continue;
    const bool closes = row.request->candidates[row.candidate].next_is_last();
    if (closes && row.request->session == nullptr) continue;
    PlanFollowing(row);
    rows.push_back(row);
  }
  if (!rows.empty()) LaunchStep(std::move(rows));
  return !device_lost_;
}

void EngineLoop::PlanFollowing(const Row& row) {
  const Candidate& candidate = row.request->candidates[row.candidate];
  PlanRow(row);
  batch_.decode_tokens.back() = kDrawnToken;
  LogitsTask& task = batch_.logits.back();
  if (candidate.next_is_last()) task.sampling = nullptr;
  task.one_unseen = task.sampling != nullptr;
  candidate.AppendStopsOfNext(&batch_.stops);
  batch_.stop_offsets.push_back(static_cast<uint32_t>(batch_.stops.size()));
}

// Launches batch_, whose rows these are.
void EngineLoop::LaunchStep(std::vector<Row> rows) {
  MAMBAD_CHECK(!step_ && rows.size() == batch_.decode_slots.size());
  if (absl::Status status = model_.Launch(batch_, pool_->view()); !status.ok()) return LoseDevice(status);
  step_.emplace(Step{.rows = std::move(rows), .timer = WallTimer(wall_clock_), .ended = {}});
}

}  // namespace mambad
