// OpenRequest: an accepted request between Submit and its End event, as the engine loop keeps it.
#ifndef MAMBAD_ENGINE_SCHEDULE_OPEN_REQUEST_H_
#define MAMBAD_ENGINE_SCHEDULE_OPEN_REQUEST_H_

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/request.h"
#include "engine/schedule/candidate.h"
#include "engine/schedule/prompt_reader.h"
#include "engine/schedule/scheduler.h"
#include "engine/session/session.h"
#include "engine/session/state_pool.h"
#include "engine/token_sink.h"

namespace mambad {

struct OpenRequest {
  // kWaiting: in the queue. kPrompt: admitted, before its first token; ending here leaves a session as it
  // was. kDecode: each tick consumes the token emitted last and draws the next one.
  enum class Phase { kWaiting, kPrompt, kDecode };

  OpenRequest(RequestTicket ticket_in, GenerationRequest request_in, std::shared_ptr<TokenSink> sink_in,
              absl::Time queued_at_in)
      : ticket(ticket_in),
        request(std::move(request_in)),
        tokens_kept(request.input_tokens()),
        sink(std::move(sink_in)),
        queued_at(queued_at_in) {}
  OpenRequest(const OpenRequest&) = delete;  // candidates and reader point into it
  OpenRequest& operator=(const OpenRequest&) = delete;

  bool generates() const {
    return request.method == Method::kGenerate || request.method == Method::kStreamGenerate;
  }
  bool paused() const { return paused_since != absl::InfiniteFuture(); }
  WaitingRequest waiting() const {
    return {.ticket = ticket, .priority = request.priority, .slots = slots_needed};
  }
  // The slot that candidate `index` works in.
  int32_t SlotOf(uint32_t index) const {
    return slots.empty() ? session->slot.index() : slots[index].index();
  }

  const RequestTicket ticket;
  GenerationRequest request;  // its prompt is given back when it has been read
  uint64_t tokens_kept;       // of the prompt, as the ledger counts them
  const std::shared_ptr<TokenSink> sink;
  const absl::Time queued_at;

  Phase phase = Phase::kWaiting;
  Session* session = nullptr;  // null: stateless
  uint32_t slots_needed = 0;
  bool queued = false;  // the scheduler knows of it

  absl::Time admitted_at;
  // Stateless: one a candidate. Session: the working slot of its prompt phase, or none when it works in the
  // session's own slot.
  std::vector<StateSlot> slots;
  std::optional<PromptReader> reader;
  WideSlot wide;                     // of a narrow state, from the first chunk of its prompt to the last
  std::vector<TokenLogprob> scores;  // Score: so far
  std::vector<Candidate> candidates;
  std::vector<uint64_t> last_planned;  // tick, by candidate
  size_t candidates_finished = 0;

  // A session's turn that has ended, for its caller's or for its own reasons, while its last emitted token is
  // not consumed yet: one more step consumes it and draws nothing.
  bool closing = false;
  std::optional<absl::Status> verdict;  // how such a turn ends, if not well

  absl::Time paused_since = absl::InfiniteFuture();
  bool ended = false;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_OPEN_REQUEST_H_
