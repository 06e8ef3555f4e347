#include "engine/engine.h"

#include <algorithm>
#include <atomic>
#include <optional>
#include <random>
#include <thread>
#include <utility>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "engine/model/model.h"
#include "engine/schedule/engine_loop.h"
#include "engine/schedule/ledger.h"
#include "engine/schedule/mailbox.h"
#include "engine/session/state_pool.h"
#include "kernels/base/check.h"
#include "kernels/base/status_macros.h"

namespace mambad {
namespace {

uint64_t EntropySeed() {
  std::random_device entropy;
  const uint64_t high = entropy();
  return std::max<uint64_t>(1, high << 32 | entropy());
}

absl::Status CheckOptions(const EngineOptions& options) {
  if (options.queue_requests_max < 1) return InvalidField("queue_requests_max", "must be at least 1");
  if (options.prompt_tokens_max < 1) return InvalidField("prompt_tokens_max", "must be at least 1");
  if (options.queue_tokens_max < options.prompt_tokens_max) {
    return InvalidField("queue_tokens_max", "must be at least prompt_tokens_max");
  }
  if (options.decode_rows_max < 1) return InvalidField("decode_rows_max", "must be at least 1");
  if (options.prompt_tokens_per_pass < 1 || options.prompt_tokens_per_pass_idle < 1) {
    return InvalidField("prompt_tokens_per_pass", "must be at least 1");
  }
  if (!(options.prompt_share > 0 && options.prompt_share <= 1)) {
    return InvalidField("prompt_share", "must be in (0, 1]");
  }
  if (std::min(options.prompt_time_per_pass, options.prompt_time_per_pass_idle) <= absl::ZeroDuration()) {
    return InvalidField("prompt_time_per_pass", "must be positive");
  }
  if (options.stall_timeout <= absl::ZeroDuration()) {
    return InvalidField("stall_timeout", "must be positive");
  }
  if (options.device_timeout < absl::ZeroDuration()) {
    return InvalidField("device_timeout", "must not be negative");
  }
  if (options.session_ttl_default < absl::Seconds(1) || options.session_ttl_default > absl::Hours(24 * 365)) {
    return InvalidField("session_ttl_default", "must be in [1 s, 365 d]");
  }
  return absl::OkStatus();
}

// `options` with every zero that stands for a default replaced.
absl::StatusOr<EngineOptions> Resolve(EngineOptions options, const StateLayout& layout) {
  MAMBAD_RETURN_IF_ERROR(CheckOptions(options));
  if (options.state_slots == 0) {
    options.state_slots = StatePool::SlotsThatFit(layout, options.state_memory_bytes);
    if (options.state_slots == 0) {
      return absl::ResourceExhaustedError(absl::StrCat("one state slot needs ", layout.PoolBytes(1),
                                                       " bytes, the budget state_memory_bytes is ",
                                                       options.state_memory_bytes));
    }
  }
  if (options.state_slots > StatePool::kSlotsMax) {
    return InvalidField("state_slots", absl::StrCat("must be at most ", StatePool::kSlotsMax));
  }
  if (options.sessions_max == 0) {
    options.sessions_max = options.state_slots - std::max(1u, options.state_slots / 8);
  } else if (options.sessions_max >= options.state_slots) {
    return InvalidField("sessions_max", absl::StrCat("must be below the state slots, ", options.state_slots));
  }
  if (options.seed == 0) options.seed = EntropySeed();
  return options;
}

// `done`, called once however many copies are called, and gone from all of them then: a verb that a hanging
// tick has taken up is answered by whoever gives up on the device, and by the tick should it come back.
template <class Result>
std::function<void(Result)> OnlyOnce(std::function<void(Result)> done) {
  struct Answer {
    std::atomic<bool> given{false};
    std::function<void(Result)> done;
  };
  auto answer = std::make_shared<Answer>();
  answer->done = std::move(done);
  return [answer](Result result) {
    if (!answer->given.exchange(true)) std::exchange(answer->done, nullptr)(std::move(result));
  };
}

class EngineImpl final : public Engine {
 public:
  EngineImpl(std::shared_ptr<Model> model, std::shared_ptr<const Tokenizer> tokenizer, EngineOptions options,
             std::unique_ptr<StatePool> pool, std::vector<kernels::MemoryUse> device_overhead)
      : model_(std::move(model)),
        tokenizer_(std::move(tokenizer)),
        options_(std::move(options)),
        device_overhead_(std::move(device_overhead)),
        mailbox_(std::make_shared<Mailbox>()),
        ledger_(options_.queue_requests_max, options_.queue_tokens_max, options_.state_slots,
                pool->slot_bytes()),
        loop_(*model_, tokenizer_.get(), options_, std::move(pool), *mailbox_, ledger_) {}

  ~EngineImpl() override {
    stopping_ = true;
    mailbox_->Wake();
    if (thread_.joinable()) thread_.join();
    loop_.Stop(Now());
  }

  void Start() override {
    MAMBAD_CHECK(!started_.exchange(true));
    thread_ = std::thread([this] { Run(); });
  }

  TickReport Tick(absl::Time now) override {
    MAMBAD_CHECK(!started_);
    return loop_.Tick(now);
  }

  absl::StatusOr<RequestTicket> Submit(GenerationRequest request, std::shared_ptr<TokenSink> sink) override {
    MAMBAD_CHECK(sink != nullptr);
    const absl::Time now = Now();
    if (absl::Status status = Validate(request, limits()); !status.ok()) {
      ledger_.Reject(request.method, status.code());
      return status;
    }
    if (tokenizer_ == nullptr) request.output.skip_text = true;
    if (request.arrival == absl::InfinitePast()) request.arrival = now;
    MAMBAD_RETURN_IF_ERROR(ledger_.Accept(request, now));
    // A model that runs ahead has two tokens of a candidate under way.
    const size_t deltas = model_->launches_max() > 1 ? 2 : 1;
    sink->Attach(deltas * request.candidate_count + 1, [mailbox = mailbox_] { mailbox->Wake(); });
    const Method method = request.method;
    const uint64_t tokens = request.input_tokens();
    const std::optional<RequestTicket> ticket = mailbox_->Submit(std::move(request), std::move(sink), now);
    if (ticket) return *ticket;
    const absl::Status lost = DeviceLostError(absl::StatusCode::kUnavailable);
    ledger_.ReleaseTokens(tokens);
    ledger_.Finish(method, /*was_running=*/false, lost.code(), absl::ZeroDuration());
    return lost;
  }

  void Cancel(RequestTicket ticket, absl::Status status) override {
    mailbox_->Cancel(ticket, std::move(status));
  }

  void CreateSession(CreateSessionRequest request, absl::Time deadline, SessionDone done) override {
    Post(CreateCommand{std::move(request), deadline, std::move(done)});
  }
  void GetSession(std::string id, absl::Time deadline, SessionDone done) override {
    Post(GetCommand{{std::move(id)}, deadline, std::move(done)});
  }
  void ListSessions(ListSessionsRequest request, absl::Time deadline, SessionPageDone done) override {
    Post(ListCommand{std::move(request), deadline, std::move(done)});
  }
  void DeleteSession(DeleteSessionRequest request, absl::Time deadline, SessionDone done) override {
    Post(DeleteCommand{std::move(request), deadline, std::move(done)});
  }
  void ForkSession(ForkSessionRequest request, absl::Time deadline, SessionDone done) override {
    Post(ForkCommand{std::move(request), deadline, std::move(done)});
  }

  void Drain(absl::Time deadline, std::function<void()> drained) override {
    ledger_.SetDraining();
    mailbox_->PostDrain({deadline, std::move(drained)});
  }

  EngineStats Stats() const override { return ledger_.Stats(); }
  void RecordRejection(Method method, absl::StatusCode code) override { ledger_.Reject(method, code); }
  void RecordTimeToFirstToken(absl::Duration latency) override { ledger_.RecordTimeToFirstToken(latency); }
  void RecordInterTokenLatency(absl::Duration latency, uint64_t tokens) override {
    ledger_.RecordInterTokenLatency(latency, tokens);
  }

  const Model& model() const override { return *model_; }
  const Tokenizer* tokenizer() const override { return tokenizer_.get(); }
  const EngineOptions& options() const override { return options_; }
  RequestLimits limits() const override {
    return {.vocab_size = static_cast<uint32_t>(model_->info().vocab_size),
            .state_slots = options_.state_slots,
            .prompt_tokens_max = options_.prompt_tokens_max,
            .has_tokenizer = tokenizer_ != nullptr,
            .decode_rows = model_->limits().decode_rows};
  }
  std::vector<MemoryAddend> MemoryLedger() const override {
    std::vector<MemoryAddend> ledger;
    for (const kernels::MemoryUse& use : model_->device().Ledger()) {
      if (use.bytes > 0) ledger.push_back({use.user, use.bytes});
    }
    for (const kernels::MemoryUse& use : device_overhead_) ledger.push_back({use.user, use.bytes});
    // In host memory, whatever the device.
    ledger.push_back({"host buffers", model_->device().host_bytes()});
    ledger.push_back({"open requests", options_.queue_tokens_max * sizeof(uint32_t) +
                                           (uint64_t{options_.queue_requests_max} + options_.state_slots) *
                                               sizeof(OpenRequest)});
    return ledger;
  }
  bool healthy(absl::Time now) const override { return !ledger_.device_lost() && !Hangs(now); }

  void LoseDevice() override {
    ledger_.SetDeviceLost();
    Mailbox::GivenUp left = mailbox_->GiveUp();
    const auto code_of = [](const Mailbox::Open& open) {
      return open.taken ? absl::StatusCode::kInternal : absl::StatusCode::kUnavailable;
    };
    std::vector<Ledger::GivenUp> requests;
    for (const Mailbox::Open& open : left.open) requests.push_back({open.method, code_of(open)});
    ledger_.GiveUp(requests);
    for (const Mailbox::Open& open : left.open) {
      open.sink->GiveUp({.status = DeviceLostError(code_of(open)), .usage = {}, .session = {}});
    }
    for (Command& command : left.taken) std::visit(Refuse{}, command);
    for (Command& command : left.commands) std::visit(Refuse{}, command);
  }

 private:
  // A test that ticks by hand owns the time.
  absl::Time Now() const { return started_ ? absl::Now() : ledger_.last_tick(); }

  // Answers a command that no tick will. A request's end comes from its sink.
  struct Refuse {
    void operator()(SubmitCommand&) const {}
    void operator()(DrainCommand& command) const {
      if (command.drained) command.drained();
    }
    template <class Verb>
    void operator()(Verb& verb) const {
      verb.done(DeviceLostError(absl::StatusCode::kUnavailable));
    }
  };

  bool Hangs(absl::Time now) const {
    const int64_t began = tick_began_ns_.load();
    return began != 0 && options_.device_timeout > absl::ZeroDuration() &&
           now - absl::FromUnixNanos(began) > options_.device_timeout;
  }

  void Run() {
    while (!stopping_) {
      const absl::Time now = absl::Now();
      tick_began_ns_ = absl::ToUnixNanos(now);
      const TickReport report = loop_.Tick(now);
      tick_began_ns_ = 0;
      // A tick may have taken up the wake of the end itself.
      if (report.idle && !stopping_) mailbox_->WaitUntil(report.next_event);
    }
  }

  template <class Verb>
  void Post(Verb verb) {
    verb.done = OnlyOnce(std::move(verb.done));
    Command command(std::move(verb));
    if (mailbox_->PostVerb(std::move(command))) return;
    if (mailbox_->given_up()) return Refuse()(std::get<Verb>(command));
    std::get<Verb>(command).done(
        MakeError(absl::StatusCode::kResourceExhausted, "too many session requests wait",
                  {.reason = reason::kQueueFull, .retry_after = ledger_.RetryAfter()}));
  }

  const std::shared_ptr<Model> model_;
  const std::shared_ptr<const Tokenizer> tokenizer_;
  const EngineOptions options_;
  const std::vector<kernels::MemoryUse> device_overhead_;
  const std::shared_ptr<Mailbox> mailbox_;
  Ledger ledger_;
  EngineLoop loop_;
  std::atomic<bool> started_{false};
  std::atomic<bool> stopping_{false};
  std::atomic<int64_t> tick_began_ns_{0};  // of the tick that runs on the thread; 0: none
  std::thread thread_;
};

}  // namespace

absl::StatusOr<std::unique_ptr<Engine>> Engine::Create(std::shared_ptr<Model> model,
                                                       std::shared_ptr<const Tokenizer> tokenizer,
                                                       EngineOptions options) {
  MAMBAD_ASSIGN_OR_RETURN(options, Resolve(std::move(options), model->state_layout()));
#ifdef NDEBUG
  constexpr bool kPoison = false;
#else
  constexpr bool kPoison = true;
#endif
  MAMBAD_ASSIGN_OR_RETURN(
      auto pool, StatePool::Create(model->device(), model->state_layout(), options.state_slots, kPoison));
  MAMBAD_RETURN_IF_ERROR(model->Prepare(pool->view()));
  MAMBAD_ASSIGN_OR_RETURN(std::vector<kernels::MemoryUse> overhead, model->device().Overhead());
  return std::make_unique<EngineImpl>(std::move(model), std::move(tokenizer), std::move(options),
                                      std::move(pool), std::move(overhead));
}

}  // namespace mambad
