// LoopHarness: an EngineLoop on the oracle model, or on any other, ticked by hand, with the session verbs as
// plain calls and requests that remember what they got.
#ifndef MAMBAD_TESTS_SUPPORT_LOOP_HARNESS_H_
#define MAMBAD_TESTS_SUPPORT_LOOP_HARNESS_H_

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "engine/schedule/engine_loop.h"
#include "engine/schedule/ledger.h"
#include "engine/schedule/mailbox.h"
#include "tests/support/oracle_model.h"

namespace mambad {

// What a request has got so far. Checks the order of events as they come.
class Transcript {
 public:
  explicit Transcript(std::shared_ptr<TokenSink> sink) : sink_(std::move(sink)) {}

  // Reads up to `events` events; returns how many there were.
  size_t Read(size_t events = SIZE_MAX);

  std::optional<StartedEvent> started;
  std::vector<TokenLogprob> prompt_logprobs;
  std::map<uint32_t, std::vector<uint32_t>> tokens;  // by candidate
  std::map<uint32_t, std::string> text;
  std::map<uint32_t, std::vector<TokenLogprob>> logprobs;
  std::map<uint32_t, FinishedEvent> finished;
  std::optional<ScoredEvent> scored;
  std::optional<EndEvent> end;

 private:
  void Take(TokenEvent event);

  std::shared_ptr<TokenSink> sink_;
};

struct HarnessOptions {
  // Ticks depend on no clock.
  EngineOptions engine = {.state_slots = 8,
                          .sessions_max = 6,
                          .prompt_share = 1,
                          .prompt_time_per_pass = absl::InfiniteDuration(),
                          .prompt_time_per_pass_idle = absl::InfiniteDuration(),
                          .seed = 1};
  ForwardLimits limits;
  const Tokenizer* tokenizer = nullptr;
  OracleModel::Ahead ahead = OracleModel::Ahead::kNo;
  // Of a pass. Of more than one, a tick with decoding rows runs one where prompt_share is kOnePart.
  uint32_t parts = 1;
};

inline constexpr double kOnePart = 1e-12;

class LoopHarness {
 public:
  static constexpr absl::Duration kTickTime = absl::Milliseconds(1);
  static constexpr size_t kSinkCapacity = 1 << 16;

  explicit LoopHarness(HarnessOptions options = {});
  LoopHarness(HarnessOptions options, std::shared_ptr<Model> model);
  ~LoopHarness();

  absl::Time now() const { return now_; }
  void Advance(absl::Duration duration) { now_ += duration; }
  // One tick, kTickTime after the last. Checks what must hold after every tick.
  TickReport Tick();
  // Ticks until nothing is left to do.
  void Settle();

  // Refused requests come back as a status; an accepted one as its ticket, with its transcript in
  // `transcripts`.
  absl::StatusOr<RequestTicket> TrySubmit(GenerationRequest request, size_t sink_capacity = kSinkCapacity);
  RequestTicket Submit(GenerationRequest request, size_t sink_capacity = kSinkCapacity);
  Transcript& Of(RequestTicket ticket) { return transcripts.at(ticket); }
  // Settles and reads.
  Transcript& Run(GenerationRequest request);
  void Cancel(RequestTicket ticket, absl::Status status = absl::CancelledError()) {
    mailbox.Cancel(ticket, std::move(status));
  }

  // Verbs: post, tick, answer. Post* only post.
  void PostCreate(CreateSessionRequest request, SessionDone done);
  void PostGet(std::string id, SessionDone done);
  void PostDelete(DeleteSessionRequest request, SessionDone done);
  void PostFork(ForkSessionRequest request, SessionDone done);
  absl::StatusOr<SessionInfo> Create(CreateSessionRequest request);
  absl::StatusOr<SessionInfo> Get(const std::string& id);
  absl::StatusOr<SessionInfo> Delete(DeleteSessionRequest request);
  absl::StatusOr<SessionInfo> Fork(ForkSessionRequest request);
  absl::StatusOr<SessionPage> List(ListSessionsRequest request);
  std::vector<std::byte> StateBytesOf(const std::string& id);
  OracleState StateOf(const std::string& id) { return OracleModel::Parse(StateBytesOf(id)); }
  OracleModel& oracle() { return dynamic_cast<OracleModel&>(*model); }

  std::shared_ptr<Model> model;
  EngineOptions options;
  Mailbox mailbox;
  Ledger ledger;
  EngineLoop loop;
  std::map<RequestTicket, Transcript> transcripts;

 private:
  void CheckLedger() const;
  absl::StatusOr<SessionInfo> Answer(const std::function<void(SessionDone)>& post);

  const Tokenizer* tokenizer_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
};

// A request for `output_tokens` tokens after `prompt`, with a seed; on `session` unless that is empty.
GenerationRequest TokensRequest(std::vector<uint32_t> prompt, uint32_t output_tokens,
                                std::string session = "");

}  // namespace mambad

#endif  // MAMBAD_TESTS_SUPPORT_LOOP_HARNESS_H_
