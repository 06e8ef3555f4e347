// The state of a GenerateStream. Internal to the library.
#ifndef MAMBAD_CLIENT_STREAM_IMPL_H_
#define MAMBAD_CLIENT_STREAM_IMPL_H_

#include <grpcpp/client_context.h>
#include <grpcpp/support/sync_stream.h>

#include <condition_variable>
#include <memory>
#include <mutex>

#include "client/call.h"
#include "client/stream.h"
#include "mambad/v1/generation.grpc.pb.h"

namespace mambad {

struct GenerateStream::Impl {
  using Stub = v1::GenerationService::StubInterface;

  Impl(std::shared_ptr<Stub> stub, const v1::GenerateRequest& request, const CallOptions& options,
       Repeat repeat);
  ~Impl();

  const v1::StreamGenerateResponse* Next();
  void Cancel();

  absl::Status status;

 private:
  using Reader = grpc::ClientReaderInterface<v1::StreamGenerateResponse>;

  bool Start();
  // True when another attempt has been started.
  bool Retry();

  const std::shared_ptr<Stub> stub_;
  const v1::GenerateRequest request_;
  Attempts attempts_;
  std::unique_ptr<Reader> reader_;
  v1::StreamGenerateResponse event_;
  bool any_event_ = false;
  bool ended_ = false;

  std::mutex mutex_;  // guards what Cancel reaches
  std::condition_variable cancel_called_;
  std::unique_ptr<grpc::ClientContext> context_;
  bool cancelled_ = false;
};

}  // namespace mambad

#endif  // MAMBAD_CLIENT_STREAM_IMPL_H_
