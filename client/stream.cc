#include "client/stream.h"

#include <utility>

#include "client/grpc_status.h"
#include "client/stream_impl.h"

namespace mambad {

GenerateStream::Impl::Impl(std::shared_ptr<Stub> stub, const v1::GenerateRequest& request,
                           const CallOptions& options, Repeat repeat)
    : stub_(std::move(stub)), request_(request), attempts_(options, repeat) {
  Start();
}

GenerateStream::Impl::~Impl() {
  if (ended_) return;
  Cancel();
  // gRPC wants every stream read to its end.
  while (reader_->Read(&event_)) {
  }
  reader_->Finish();
}

bool GenerateStream::Impl::Start() {
  auto context = std::make_unique<grpc::ClientContext>();
  attempts_.Start(*context);
  reader_.reset();
  {
    std::lock_guard lock(mutex_);
    if (cancelled_) return false;
    context_ = std::move(context);
  }
  // Not under the lock: this may wait for the connection, and Cancel must not.
  reader_ = stub_->StreamGenerate(context_.get(), request_);
  return true;
}

bool GenerateStream::Impl::Retry() {
  const auto wait = any_event_ ? std::nullopt : attempts_.Wait(status);
  if (!wait.has_value()) return false;
  {
    std::unique_lock lock(mutex_);
    cancel_called_.wait_for(lock, absl::ToChronoNanoseconds(*wait), [this] { return cancelled_; });
  }
  if (Start()) {
    status = absl::OkStatus();
    return true;
  }
  status = absl::CancelledError("cancelled by the caller");
  return false;
}

const v1::StreamGenerateResponse* GenerateStream::Impl::Next() {
  while (!ended_) {
    if (reader_->Read(&event_)) {
      any_event_ = true;
      return &event_;
    }
    status = FromGrpc(reader_->Finish());
    ended_ = !Retry();
  }
  return nullptr;
}

void GenerateStream::Impl::Cancel() {
  std::lock_guard lock(mutex_);
  cancelled_ = true;
  context_->TryCancel();
  cancel_called_.notify_all();
}

GenerateStream::GenerateStream(std::unique_ptr<Impl> impl) : impl_(std::move(impl)) {}
GenerateStream::~GenerateStream() = default;
GenerateStream::GenerateStream(GenerateStream&& other) noexcept = default;
GenerateStream& GenerateStream::operator=(GenerateStream&& other) noexcept = default;

const v1::StreamGenerateResponse* GenerateStream::Next() { return impl_->Next(); }
const absl::Status& GenerateStream::status() const { return impl_->status; }
void GenerateStream::Cancel() { impl_->Cancel(); }

}  // namespace mambad
