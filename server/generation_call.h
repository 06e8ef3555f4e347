// GenerationCall: one RPC that becomes an engine request (Generate, StreamGenerate, Score, AppendInput), from
// its arrival to its one status. It tokenizes, submits, cancels and records; what is done with the events is
// the subclass's.
//
// Life: the subclass is also a gRPC reactor. It owns itself (KeepAlive) until gRPC's OnDone (Release); jobs
// on other threads hold it by shared_ptr, the engine only by the sink's weak one. Finish is called from one
// place: where the End event is popped, or where the request is refused.
//
// Threads: Begin on gRPC's thread; OnEvents on the delivery thread; OnClientCancel on any.
#ifndef MAMBAD_SERVER_GENERATION_CALL_H_
#define MAMBAD_SERVER_GENERATION_CALL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "absl/status/status.h"
#include "absl/status/statusor.h"
#include "absl/time/time.h"
#include "engine/engine.h"
#include "engine/token_sink.h"
#include "grpcpp/server_context.h"
#include "server/backend.h"
#include "server/convert.h"

namespace mambad {

class GenerationCall : public std::enable_shared_from_this<GenerationCall> {
 public:
  virtual ~GenerationCall() = default;
  GenerationCall(const GenerationCall&) = delete;
  GenerationCall& operator=(const GenerationCall&) = delete;

 protected:
  // `backend` outlives every call.
  GenerationCall(Backend* backend, Method method, const grpc::CallbackServerContext& context);

  // Takes the request on, or refuses it. `parsed` was made from `serving`.
  void Begin(std::shared_ptr<const Serving> serving, absl::StatusOr<PendingRequest> parsed);
  // Refuses before there is anything to serve with.
  void Refuse(const absl::Status& status);

  // Events wait in the sink. Called on the delivery thread; pops until there are none.
  virtual void OnEvents() = 0;
  // The call ends before it became a request.
  virtual void OnRefused(const absl::Status& status) = 0;

  // The client went away: ends the request at the engine's next tick. Its End event follows.
  void OnClientCancel();
  // Ends the request with `status`, because its answer cannot be delivered.
  void Abandon(const absl::Status& status);

  // Tells metrics about the tokens of one Delta that was handed to gRPC.
  void RecordDelta(uint32_t candidate, uint64_t tokens);
  // What the caller is told for the engine's `status`.
  absl::Status Verdict(const absl::Status& status) const;
  // Writes the request's log line.
  void RecordEnd(const EndEvent& end, const absl::Status& status);

  void KeepAlive(std::shared_ptr<GenerationCall> self) {
    self_ = std::move(self);
    backend_->CallOpened();
  }
  void Release() {
    backend_->CallClosed();
    self_.reset();
  }

  Backend* backend() const { return backend_; }
  const Serving& serving() const { return *serving_; }
  Engine& engine() const { return *serving_->engine; }
  TokenSink& sink() const { return *sink_; }
  const TokenView& view() const { return view_; }
  const std::string& request_id() const { return request_id_; }
  const std::string& session_id() const { return session_id_; }
  absl::Time deadline() const { return deadline_; }

  // The first Started event's queue time, for the log.
  absl::Duration queue_time_ = absl::ZeroDuration();

 private:
  // Learns the session's position first when the tokenizer's template depends on it.
  void Tokenize();
  void TokenizeAndSubmit(bool at_start);
  void Submit();
  void Schedule();

  Backend* const backend_;
  const Method method_;
  const absl::Time arrival_;
  const absl::Time deadline_;
  std::shared_ptr<const Serving> serving_;
  PendingRequest pending_;
  std::string request_id_;
  std::string session_id_;
  TokenView view_;
  std::shared_ptr<TokenSink> sink_;
  std::shared_ptr<GenerationCall> self_;

  bool pinned_ = false;                 // to position 0, though the caller named none
  std::vector<absl::Time> last_delta_;  // by candidate; InfinitePast: none yet
  std::optional<absl::Duration> time_to_first_token_;

  std::mutex mu_;
  RequestTicket ticket_ = 0;  // guarded by mu_
  absl::Status abandoned_;    // guarded by mu_; not OK: end the request with it
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_GENERATION_CALL_H_
