// EngineLoop: one turn of the engine as a function of time. It alone touches sessions, slots and the model.
//
// A tick: take the commands that wait; end what is past its deadline; admit; end what has waited too long;
// step the rows that decode and deliver their tokens; then take prompts further and deliver first tokens.
// Where the model runs ahead (Model::Launch), the host never stands between two steps: while nothing but
// decoding goes on, a tick launches the step after the one that is under way, whose tokens it has not seen,
// then collects and delivers that one. Everything else (commands, deadlines, admission, prompts) waits for a
// tick that launches no step ahead: at most one step later. What finds its slots in the tick that takes it
// up never counts as having waited too long.
//
// Prompts are read in passes, each a set of chunks that goes through all layers. While rows decode, a tick
// runs some layers of the pass only (EngineOptions::prompt_share), after the step: a stream waits for a part
// of a pass, and yet its chunks are long, so that few passes read the weights. What ends in between gives its
// slots back at once, and its chunk reads and writes nothing from then on.
//
// How a session's turn keeps its promises (the canonical state rule):
//   - past position 0 the prompt is read in a second slot, a copy of the session's; at the first token the
//     session takes that slot over and gives its old one back. What ends before leaves the session untouched.
//     At position 0 the turn reads in the session's own slot, and is undone by zeroing it. An empty prompt
//     changes nothing before its first token, and needs no second slot.
//   - a narrow state is read in a wide slot too, which the prompt takes with its first chunk; the slot
//     changes with the last one. Wide slots are few: prompts without one wait, in the order of admission.
//   - a token is emitted as soon as it is drawn, and consumed by the next step. When a turn ends with a token
//     emitted but not consumed (length, stop string, cancel, deadline, slow reader, drain), one closing step
//     consumes it and draws nothing; Finished and End follow that step, so a caller who has seen them finds
//     the session idle and whole. End-of-sequence and stop tokens need no such step.
//
// Containment: a non-finite row ends its own request with INTERNAL STATE_POISONED. In the prompt phase the
// session is put back; later its state is lost, and every request on it answers STATE_POISONED until it is
// deleted. An error of Forward is the loss of the device: everything open ends, and nothing is accepted.
//
// Threads: one thread at a time.
#ifndef MAMBAD_ENGINE_SCHEDULE_ENGINE_LOOP_H_
#define MAMBAD_ENGINE_SCHEDULE_ENGINE_LOOP_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <random>
#include <span>
#include <string>
#include <vector>

#include "absl/status/status.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/model/model.h"
#include "engine/schedule/ledger.h"
#include "engine/schedule/mailbox.h"
#include "engine/schedule/open_request.h"
#include "engine/schedule/scheduler.h"
#include "engine/schedule/wall_timer.h"
#include "engine/session/expiry_index.h"
#include "engine/session/session_table.h"
#include "engine/session/state_pool.h"

namespace mambad {

class EngineLoop {
 public:
  // `options` are resolved (no zero that stands for a default). All but the pool must outlive the loop.
  EngineLoop(Model& model, const Tokenizer* tokenizer, const EngineOptions& options,
             std::unique_ptr<StatePool> pool, Mailbox& mailbox, Ledger& ledger);
  ~EngineLoop();  // REQUIRES: Stop was called

  TickReport Tick(absl::Time now);
  // Ends everything open with UNAVAILABLE, answers what waits in the mailbox, and drops the sessions.
  void Stop(absl::Time now);

  // Another clock to measure by, for tests. Before the first tick.
  void UseWallClock(WallClock clock) { wall_clock_ = std::move(clock); }

  const StatePool& pool() const { return *pool_; }
  // The bytes of a session's state, for tests.
  absl::StatusOr<std::vector<std::byte>> ReadState(const std::string& session_id);

 private:
  // One decode row of the running tick.
  struct Row {
    OpenRequest* request;
    uint32_t candidate;
  };
  // One prompt of a pass: its tasks are [first_task, first_task + reader.tasks()), then one more for each
  // candidate (Generate) or for the check of the last row (AppendInput) when the prompt is done.
  struct PromptRow {
    OpenRequest* request = nullptr;  // null: it has ended meanwhile
    size_t first_task = 0;
    size_t tasks = 0;
    size_t chunk = 0;
    uint32_t tokens = 0;  // of the chunk; 0: there is none, it only asks about its slot
  };

  // Prompt chunks on their way through the layers, at least one of them of a request that lives. Between
  // ticks nothing of it is under way on the device.
  struct Pass {
    Batch batch;
    std::vector<PromptRow> rows;
    uint32_t parts_done = 0;
    absl::Duration wall;
  };

  // A decode step that was launched and not collected yet.
  struct Step {
    std::vector<Row> rows;
    WallTimer timer;                                  // since it could begin
    std::vector<std::unique_ptr<OpenRequest>> ended;  // since then: rows still point to them
  };

  // Commands (engine_loop_commands.cc).
  bool TakeCommands();
  void Handle(SubmitCommand command);
  void Handle(CreateCommand command);
  void Handle(GetCommand command);
  void Handle(ListCommand command);
  void Handle(DeleteCommand command);
  void Handle(ForkCommand command);
  void Handle(DrainCommand command);
  absl::Status OpenOnSession(OpenRequest& request);
  absl::StatusOr<Session*> AddSession(const CreateSessionRequest& request, const Session* source);
  absl::StatusOr<SessionInfo> Delete(const DeleteSessionRequest& request);
  absl::StatusOr<SessionInfo> Fork(const ForkSessionRequest& request);
  absl::Status NoFreeSlot() const;

  // Ends (engine_loop.cc).
  void EndLate();
  void EndWaitedTooLong();
  void ExpireSessions();
  void AdvanceDrain();
  void Interrupt(OpenRequest& request, absl::Status status);
  void EndRequest(OpenRequest& request, absl::Status status);
  void LoseDevice(const absl::Status& status);

  void Admit();
  absl::Status Start(OpenRequest& request);
  absl::Status TakeSlots(OpenRequest& request);

  // Whether `events` fit into the sink; pauses or resumes the request accordingly.
  bool HasRoom(OpenRequest& request, size_t events);

  // Running ahead (engine_loop_ahead.cc).
  uint32_t CollectStep(bool follow);
  bool MayFollow(const Step& step);
  bool IsStale(const Row& row) const;
  bool LaunchFollowing(const Step& step);
  void PlanFollowing(const Row& row);
  void LaunchStep(std::vector<Row> rows);

  uint32_t RunDecode(uint32_t collected_rows);
  void PlanRow(const Row& row);
  std::vector<Row> ReadyRows();
  uint32_t DeliverDecode(const std::vector<Row>& rows, absl::Duration wall);
  void DeliverRow(const Row& row, const LogitsResult& result, uint64_t* emitted);

  // Prompts (engine_loop_prompts.cc).
  uint32_t RunPrompts();
  uint32_t RunPass();
  void RunWithoutLayers();
  void AskPausedReaders();
  uint32_t PromptTokensNow() const;
  uint32_t PartsNow() const;
  void PlanPass(uint32_t budget);
  bool Append(OpenRequest& request, uint32_t tokens, Pass* pass);
  std::vector<OpenRequest*> ReadyPrompts(uint32_t budget);
  void AppendChunk(OpenRequest& request, uint32_t tokens, Batch* batch);
  static void AppendLastTasks(const OpenRequest& request, std::vector<LogitsTask>* tasks);
  void LeavePass(const OpenRequest& request);
  uint64_t DeliverPass(const Pass& pass);
  void DeliverPrompt(const PromptRow& row, uint64_t* emitted);
  void BeginOutput(OpenRequest& request, std::span<const LogitsResult> samples, uint64_t* emitted);
  void ReleasePrompt(OpenRequest& request);
  void FinishAppend(OpenRequest& request);
  void AdoptPrompt(OpenRequest& request);
  void FinishScore(OpenRequest& request);

  void Emit(OpenRequest& request, uint32_t candidate, const LogitsResult& result, uint64_t* emitted);
  void FinishCandidate(OpenRequest& request, uint32_t candidate);
  Usage UsageOf(const OpenRequest& request) const;
  void SetTimer(OpenRequest& request);
  void SetSessionState(OpenRequest& request);
  SlotLoad Load() const;
  void Log(const std::string& line) const;
  TickReport Publish(uint32_t decode_rows, uint32_t prompt_tokens);

  Model& model_;
  const Tokenizer* const tokenizer_;
  const EngineOptions options_;
  const bool narrow_;  // the model's state
  WallClock wall_clock_ = SteadyTime;
  Mailbox& mailbox_;
  Ledger& ledger_;

  std::unique_ptr<StatePool> pool_;
  SessionTable sessions_;  // after pool_: its slots go back first
  Scheduler scheduler_;
  std::mt19937_64 seeds_;

  std::map<RequestTicket, std::unique_ptr<OpenRequest>> open_;
  std::vector<std::unique_ptr<OpenRequest>> ended_;  // until the end of the tick: rows still point to them
  std::vector<OpenRequest*> prompts_;                // in order of admission
  std::vector<OpenRequest*> decoding_;
  ExpiryIndex<RequestTicket> timers_;        // the caller's deadline, and the slow reader's
  ExpiryIndex<RequestTicket> queue_timers_;  // max_queue_time of what waits

  absl::Time now_;
  uint64_t tick_ = 0;
  std::optional<absl::Duration> service_time_;
  TokenRate prompt_rate_;
  PartTime part_time_;
  absl::Duration step_wall_;  // of the last decode step
  bool worked_ = false;       // this tick had something to do
  bool device_lost_ = false;
  bool stopping_ = false;
  std::optional<absl::Time> drain_deadline_;
  std::vector<std::function<void()>> drained_;

  std::optional<Step> step_;
  std::optional<Pass> pass_;
  Batch batch_;
  std::vector<LogitsResult> results_;
};

}  // namespace mambad

#endif  // MAMBAD_ENGINE_SCHEDULE_ENGINE_LOOP_H_
