#include "tests/support/loop_harness.h"

#include <gtest/gtest.h>

#include <utility>

#include "kernels/base/check.h"

namespace mambad {
namespace {

template <class... Cases>
struct Overloaded : Cases... {
  using Cases::operator()...;
};

std::unique_ptr<StatePool> NewPool(Model& model, uint32_t slots) {
  absl::StatusOr<std::unique_ptr<StatePool>> pool =
      StatePool::Create(model.device(), model.state_layout(), slots, /*poison=*/true);
  MAMBAD_CHECK(pool.ok());
  return *std::move(pool);
}

}  // namespace

size_t Transcript::Read(size_t events) {
  size_t read = 0;
  while (read < events) {
    std::optional<TokenEvent> event = sink_->Pop();
    if (!event) break;
    Take(*std::move(event));
    ++read;
  }
  return read;
}

void Transcript::Take(TokenEvent event) {
  EXPECT_FALSE(end.has_value()) << "an event after End";
  EXPECT_TRUE(started.has_value() || std::holds_alternative<StartedEvent>(event) ||
              std::holds_alternative<EndEvent>(event));
  std::visit(
      Overloaded{
          [&](StartedEvent& each) {
            EXPECT_FALSE(started.has_value());
            started = each;
          },
          [&](PromptLogprobsEvent& each) {
            EXPECT_TRUE(tokens.empty());
            prompt_logprobs.insert(prompt_logprobs.end(), each.logprobs.begin(), each.logprobs.end());
          },
          [&](DeltaEvent& each) {
            EXPECT_FALSE(finished.contains(each.candidate_index));
            auto& all = tokens[each.candidate_index];
            all.insert(all.end(), each.token_ids.begin(), each.token_ids.end());
            text[each.candidate_index] += each.text;
            auto& scores = logprobs[each.candidate_index];
            scores.insert(scores.end(), each.logprobs.begin(), each.logprobs.end());
          },
          [&](FinishedEvent& each) { EXPECT_TRUE(finished.emplace(each.candidate_index, each).second); },
          [&](ScoredEvent& each) {
            EXPECT_FALSE(scored.has_value());
            scored = std::move(each);
          },
          [&](EndEvent& each) { end = std::move(each); },
      },
      event);
}

LoopHarness::LoopHarness(HarnessOptions harness)
    : LoopHarness(harness, std::make_shared<OracleModel>(harness.limits, harness.ahead)) {
  oracle().SetParts(harness.parts);
}

LoopHarness::LoopHarness(HarnessOptions harness, std::shared_ptr<Model> model_in)
    : model(std::move(model_in)),
      options(harness.engine),
      ledger(options.queue_requests_max, options.queue_tokens_max, options.state_slots,
             model->state_layout().stride),
      loop(*model, harness.tokenizer, options, NewPool(*model, options.state_slots), mailbox, ledger),
      tokenizer_(harness.tokenizer) {}

LoopHarness::~LoopHarness() {
  loop.Stop(now_);
  EXPECT_EQ(loop.pool().used(), 0u);
}

TickReport LoopHarness::Tick() {
  now_ += kTickTime;
  const TickReport report = loop.Tick(now_);
  CheckLedger();
  return report;
}

void LoopHarness::Settle() {
  constexpr int kTicksMax = 100000;
  for (int i = 0; i < kTicksMax; ++i) {
    if (Tick().idle) return;
  }
  FAIL() << "the engine does not come to rest";
}

void LoopHarness::CheckLedger() const {
  const EngineStats stats = ledger.Stats();
  uint64_t finished = 0;
  for (const auto& by_code : stats.requests_finished) {
    for (const uint64_t count : by_code) finished += count;
  }
  ASSERT_EQ(stats.requests_accepted, finished + stats.requests_running + stats.requests_waiting);
  uint64_t sessions = 0;
  for (const uint64_t count : stats.sessions) sessions += count;
  ASSERT_EQ(stats.state_slots_used, loop.pool().used());
  ASSERT_LE(sessions, stats.state_slots_used);
  ASSERT_LE(stats.state_slots_used, stats.state_slots);
  if (stats.requests_running == 0) {
    ASSERT_EQ(stats.state_slots_used, sessions);
  }
}

absl::StatusOr<RequestTicket> LoopHarness::TrySubmit(GenerationRequest request, size_t sink_capacity) {
  const RequestLimits limits = {.vocab_size = static_cast<uint32_t>(model->info().vocab_size),
                                .state_slots = options.state_slots,
                                .prompt_tokens_max = options.prompt_tokens_max,
                                .has_tokenizer = tokenizer_ != nullptr,
                                .decode_rows = model->limits().decode_rows};
  if (absl::Status status = Validate(request, limits); !status.ok()) return status;
  request.arrival = now_;
  if (absl::Status status = ledger.Accept(request, now_); !status.ok()) return status;
  auto sink = std::make_shared<TokenSink>(sink_capacity, nullptr);
  const size_t deltas = model->launches_max() > 1 ? 2 : 1;
  sink->Attach(deltas * request.candidate_count + 1, [this] { mailbox.Wake(); });
  const RequestTicket ticket = mailbox.Submit(std::move(request), sink, now_).value();
  transcripts.emplace(ticket, Transcript(sink));
  return ticket;
}

RequestTicket LoopHarness::Submit(GenerationRequest request, size_t sink_capacity) {
  absl::StatusOr<RequestTicket> ticket = TrySubmit(std::move(request), sink_capacity);
  EXPECT_TRUE(ticket.ok()) << ticket.status();
  return ticket.value_or(0);
}

Transcript& LoopHarness::Run(GenerationRequest request) {
  Transcript& transcript = Of(Submit(std::move(request)));
  Settle();
  transcript.Read();
  EXPECT_TRUE(transcript.end.has_value());
  return transcript;
}

void LoopHarness::PostCreate(CreateSessionRequest request, SessionDone done) {
  MAMBAD_CHECK(mailbox.PostVerb(CreateCommand{std::move(request), absl::InfiniteFuture(), std::move(done)}));
}
void LoopHarness::PostGet(std::string id, SessionDone done) {
  MAMBAD_CHECK(mailbox.PostVerb(GetCommand{{std::move(id)}, absl::InfiniteFuture(), std::move(done)}));
}
void LoopHarness::PostDelete(DeleteSessionRequest request, SessionDone done) {
  MAMBAD_CHECK(mailbox.PostVerb(DeleteCommand{std::move(request), absl::InfiniteFuture(), std::move(done)}));
}
void LoopHarness::PostFork(ForkSessionRequest request, SessionDone done) {
  MAMBAD_CHECK(mailbox.PostVerb(ForkCommand{std::move(request), absl::InfiniteFuture(), std::move(done)}));
}

absl::StatusOr<SessionInfo> LoopHarness::Answer(const std::function<void(SessionDone)>& post) {
  std::optional<absl::StatusOr<SessionInfo>> answer;
  post([&](absl::StatusOr<SessionInfo> result) { answer = std::move(result); });
  Tick();
  EXPECT_TRUE(answer.has_value());
  return *answer;
}

absl::StatusOr<SessionInfo> LoopHarness::Create(CreateSessionRequest request) {
  return Answer([&](SessionDone done) { PostCreate(request, std::move(done)); });
}
absl::StatusOr<SessionInfo> LoopHarness::Get(const std::string& id) {
  return Answer([&](SessionDone done) { PostGet(id, std::move(done)); });
}
absl::StatusOr<SessionInfo> LoopHarness::Delete(DeleteSessionRequest request) {
  return Answer([&](SessionDone done) { PostDelete(request, std::move(done)); });
}
absl::StatusOr<SessionInfo> LoopHarness::Fork(ForkSessionRequest request) {
  return Answer([&](SessionDone done) { PostFork(request, std::move(done)); });
}

absl::StatusOr<SessionPage> LoopHarness::List(ListSessionsRequest request) {
  std::optional<absl::StatusOr<SessionPage>> answer;
  MAMBAD_CHECK(
      mailbox.PostVerb(ListCommand{std::move(request), absl::InfiniteFuture(),
                                   [&](absl::StatusOr<SessionPage> result) { answer = std::move(result); }}));
  Tick();
  EXPECT_TRUE(answer.has_value());
  return *answer;
}

std::vector<std::byte> LoopHarness::StateBytesOf(const std::string& id) {
  absl::StatusOr<std::vector<std::byte>> bytes = loop.ReadState(id);
  MAMBAD_CHECK(bytes.ok());
  return *std::move(bytes);
}

GenerationRequest TokensRequest(std::vector<uint32_t> prompt, uint32_t output_tokens, std::string session) {
  GenerationRequest request;
  request.session_id = std::move(session);
  request.prompt = std::move(prompt);
  request.sampling.seed = 7;
  request.stop.max_output_tokens = output_tokens;
  return request;
}

}  // namespace mambad
