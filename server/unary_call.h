// UnaryCall: the reactor of an engine request that answers once (Generate, Score, AppendInput): it collects
// events into a response and finishes at the End event.
//
// Threads: events are handled one at a time.
#ifndef MAMBAD_SERVER_UNARY_CALL_H_
#define MAMBAD_SERVER_UNARY_CALL_H_

#include <memory>
#include <mutex>
#include <optional>
#include <utility>
#include <variant>

#include "grpcpp/support/server_callback.h"
#include "server/generation_call.h"
#include "server/grpc_status.h"

namespace mambad {

class UnaryCall : public GenerationCall, public grpc::ServerUnaryReactor {
 public:
  // Starts `call` with what `request` asks for; `parse` is FromProto with the request bound.
  template <class Call, class Parse>
  static grpc::ServerUnaryReactor* Start(std::shared_ptr<Call> call, Parse parse) {
    Call* const reactor = call.get();
    reactor->KeepAlive(std::move(call));
    absl::StatusOr<std::shared_ptr<const Serving>> serving = reactor->backend()->serving();
    if (!serving.ok()) {
      reactor->Refuse(serving.status());
    } else {
      reactor->Begin(*serving, parse(**serving));
    }
    return reactor;
  }

  void OnCancel() override { OnClientCancel(); }
  void OnDone() override { Release(); }

 protected:
  using GenerationCall::GenerationCall;

  // Everything but the End event.
  virtual void Collect(const TokenEvent& event) = 0;
  // The request ended well: completes the response, then calls Complete, at once or later.
  virtual void OnSuccess(const EndEvent& end) { Complete(absl::OkStatus()); }
  // REQUIRES: called once.
  void Complete(const absl::Status& status) { Finish(ToGrpcStatus(status)); }

  // Ends the request; the call then answers `status`.
  void Fail(const absl::Status& status) {
    failure_ = status;
    Abandon(status);
  }

 private:
  void OnRefused(const absl::Status& status) override { Complete(status); }

  void OnEvents() override {
    const std::lock_guard lock(events_mu_);
    while (std::optional<TokenEvent> event = sink().Pop()) {
      if (const auto* end = std::get_if<EndEvent>(&*event)) {
        const absl::Status status = failure_.ok() ? Verdict(end->status) : failure_;
        RecordEnd(*end, status);
        return status.ok() ? OnSuccess(*end) : Complete(status);
      }
      if (const auto* started = std::get_if<StartedEvent>(&*event)) queue_time_ = started->queue_time;
      if (failure_.ok()) Collect(*event);
    }
  }

  std::mutex events_mu_;  // the delivery thread, or the engine's when the delivery queue is full
  absl::Status failure_;  // guarded by events_mu_
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_UNARY_CALL_H_
