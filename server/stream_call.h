// StreamCall: the reactor of one StreamGenerate. One write is outstanding at a time; Deltas of one candidate
// that arrive meanwhile are joined into the next message. While the client reads slowly the sink fills up and
// the engine pauses the session; nothing here waits.
//
// Threads: gRPC's, the delivery thread; they meet under mu_.
#ifndef MAMBAD_SERVER_STREAM_CALL_H_
#define MAMBAD_SERVER_STREAM_CALL_H_

#include <cstdint>
#include <memory>
#include <mutex>
#include <optional>

#include "grpcpp/support/server_callback.h"
#include "mambad/v1/generation.pb.h"
#include "server/generation_call.h"

namespace mambad {

class StreamCall final : public GenerationCall, public grpc::ServerWriteReactor<v1::StreamGenerateResponse> {
 public:
  // Starts the call and gives gRPC its reactor.
  static grpc::ServerWriteReactor<v1::StreamGenerateResponse>* Start(Backend* backend,
                                                                     grpc::CallbackServerContext* context,
                                                                     const v1::GenerateRequest& request);

  StreamCall(Backend* backend, const grpc::CallbackServerContext& context)
      : GenerationCall(backend, Method::kStreamGenerate, context) {}

  void OnWriteDone(bool ok) override;
  void OnCancel() override { OnClientCancel(); }
  void OnDone() override { Release(); }

 private:
  void OnEvents() override;
  void OnRefused(const absl::Status& status) override;

  // Writes what waits unless a write is outstanding; finishes at the End event.
  void Pump();
  // The next message to write into response_. False: nothing to write (none waits, or the call ended).
  bool NextMessage();
  // Appends further Deltas of the same candidate to response_.
  void JoinDeltas();
  std::optional<TokenEvent> NextEvent();
  void End(const EndEvent& end);

  std::mutex mu_;
  bool writing_ = false;             // guarded by mu_; a write is outstanding
  bool broken_ = false;              // guarded by mu_; a write failed: events are dropped until End
  bool finished_ = false;            // guarded by mu_
  std::optional<TokenEvent> ahead_;  // guarded by mu_; popped, but not part of the message it was popped for
  v1::StreamGenerateResponse response_;  // guarded by mu_; gRPC reads it while writing_
  uint32_t delta_candidate_ = 0;         // guarded by mu_; of the Delta in response_
  uint64_t delta_tokens_ = 0;            // guarded by mu_; tokens in it, shown or not
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_STREAM_CALL_H_
