// The events of one StreamGenerate call, as a range:
//
//   mambad::GenerateStream stream = client.StreamGenerate(request);
//   for (const auto& event : stream) {
//     if (event.has_delta()) std::cout << event.delta().text();
//   }
//   if (!stream.status().ok()) ...
//
// Events come in the order of generation.proto: Started, PromptLogprobs, Deltas, one Finished for each
// candidate. The range ends at the end of the call, whatever that was; status() says which.
//
// Threads: one thread reads; Cancel may be called by any thread while the stream exists and is not being
// moved.
#ifndef MAMBAD_CLIENT_STREAM_H_
#define MAMBAD_CLIENT_STREAM_H_

#include <cstddef>
#include <iterator>
#include <memory>

#include "absl/status/status.h"
#include "mambad/v1/generation.pb.h"

namespace mambad {

class GenerateStream {
 public:
  class Iterator;

  // A stream that is dropped before its end is cancelled.
  ~GenerateStream();
  GenerateStream(GenerateStream&& other) noexcept;
  GenerateStream& operator=(GenerateStream&& other) noexcept;

  // Waits for the next event; null at the end. The event is valid until the next call.
  const v1::StreamGenerateResponse* Next();

  Iterator begin();
  std::default_sentinel_t end() const { return {}; }

  // How the call ended; OK while it has not.
  const absl::Status& status() const;

  // Ends the call with CANCELLED, also while it waits to be retried. Does nothing once it has ended.
  void Cancel();

 private:
  friend class Client;
  struct Impl;
  explicit GenerateStream(std::unique_ptr<Impl> impl);

  std::unique_ptr<Impl> impl_;
};

class GenerateStream::Iterator {
 public:
  using iterator_concept = std::input_iterator_tag;
  using value_type = v1::StreamGenerateResponse;
  using difference_type = std::ptrdiff_t;

  explicit Iterator(GenerateStream* stream) : stream_(stream), event_(stream->Next()) {}

  const value_type& operator*() const { return *event_; }
  const value_type* operator->() const { return event_; }
  Iterator& operator++() {
    event_ = stream_->Next();
    return *this;
  }
  void operator++(int) { ++*this; }
  bool operator==(std::default_sentinel_t) const { return event_ == nullptr; }

 private:
  GenerateStream* stream_;
  const value_type* event_;
};

inline GenerateStream::Iterator GenerateStream::begin() { return Iterator(this); }

}  // namespace mambad

#endif  // MAMBAD_CLIENT_STREAM_H_
