// An engine without a model: it accepts every valid request, remembers it, and lets the test push the events.
#ifndef MAMBAD_TESTS_SUPPORT_FAKE_ENGINE_H_
#define MAMBAD_TESTS_SUPPORT_FAKE_ENGINE_H_

#include <condition_variable>
#include <memory>
#include <mutex>
#include <utility>
#include <vector>

#include "engine/engine.h"
#include "engine/model/model.h"
#include "kernels/base/check.h"
#include "server/serving.h"

namespace mambad::testing {

class FakeEngine : public Engine {
 public:
  struct Submitted {
    GenerationRequest request;
    std::shared_ptr<TokenSink> sink;
  };

  explicit FakeEngine(RequestLimits limits) : limits_(limits) {}

  // Waits for the n-th request (from 0).
  Submitted WaitForRequest(size_t n) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] { return submitted_.size() > n; });
    return submitted_[n];
  }
  // Waits until the n-th request was cancelled.
  void WaitForCancel(size_t n) {
    std::unique_lock lock(mu_);
    changed_.wait(lock, [&] {
      for (const RequestTicket ticket : cancelled_) {
        if (ticket == n + 1) return true;
      }
      return false;
    });
  }
  size_t cancels() const {
    const std::lock_guard lock(mu_);
    return cancelled_.size();
  }

  void Start() override {}
  TickReport Tick(absl::Time) override { return {}; }

  absl::StatusOr<RequestTicket> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override {
    if (absl::Status status = Validate(request, limits_); !status.ok()) return status;
    sink->Attach(request.candidate_count + 1, [] {});
    const std::lock_guard lock(mu_);
    submitted_.push_back({std::move(request), std::move(sink)});
    changed_.notify_all();
    return submitted_.size();
  }
  void Cancel(RequestTicket ticket, absl::Status) override {
    const std::lock_guard lock(mu_);
    cancelled_.push_back(ticket);
    changed_.notify_all();
  }

  void CreateSession(CreateSessionRequest request, absl::Time, SessionDone done) override {
    done(SessionInfo{.id = request.id});
  }
  void GetSession(std::string id, absl::Time, SessionDone done) override { done(SessionInfo{.id = id}); }
  void ListSessions(ListSessionsRequest, absl::Time, SessionPageDone done) override { done(SessionPage()); }
  void DeleteSession(DeleteSessionRequest, absl::Time, SessionDone done) override { done(SessionInfo()); }
  void ForkSession(ForkSessionRequest request, absl::Time, SessionDone done) override {
    done(SessionInfo{.id = request.id});
  }
  void Drain(absl::Time, std::function<void()> drained) override { drained(); }

  EngineStats Stats() const override { return {}; }
  void RecordRejection(Method method, absl::StatusCode code) override {
    const std::lock_guard lock(mu_);
    ++rejections_;
  }
  void RecordTimeToFirstToken(absl::Duration) override {
    const std::lock_guard lock(mu_);
    ++first_tokens_;
  }
  void RecordInterTokenLatency(absl::Duration, uint64_t tokens) override {
    const std::lock_guard lock(mu_);
    later_tokens_ += tokens;
  }
  uint64_t rejections() const {
    const std::lock_guard lock(mu_);
    return rejections_;
  }
  uint64_t first_tokens() const {
    const std::lock_guard lock(mu_);
    return first_tokens_;
  }
  uint64_t later_tokens() const {
    const std::lock_guard lock(mu_);
    return later_tokens_;
  }

  const Model& model() const override {
    MAMBAD_CHECK(false);  // no test asks for it
    std::abort();
  }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  void set_tokenizer(std::shared_ptr<const Tokenizer> tokenizer) { tokenizer_ = std::move(tokenizer); }
  const EngineOptions& options() const override { return options_; }
  RequestLimits limits() const override { return limits_; }
  std::vector<MemoryAddend> MemoryLedger() const override { return {}; }
  bool healthy(absl::Time) const override { return true; }
  void LoseDevice() override {}

 private:
  const RequestLimits limits_;
  const EngineOptions options_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  mutable std::mutex mu_;
  std::condition_variable changed_;
  std::vector<Submitted> submitted_;      // guarded by mu_
  std::vector<RequestTicket> cancelled_;  // guarded by mu_
  uint64_t rejections_ = 0;               // guarded by mu_
  uint64_t first_tokens_ = 0;             // guarded by mu_
  uint64_t later_tokens_ = 0;             // guarded by mu_
};

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_FAKE_ENGINE_H_
