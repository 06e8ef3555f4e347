// The facade with its real thread; what one tick does is engine_loop_test's matter.
#include "engine/engine.h"

#include <gtest/gtest.h>

#include <atomic>
#include <cmath>
#include <condition_variable>
#include <future>
#include <mutex>
#include <thread>

#include "absl/time/clock.h"
#include "engine/error.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_run.h"

namespace mambad {
namespace {

constexpr absl::Duration kPatience = absl::Seconds(60);

// A sink whose reader sleeps until there is something to read.
class Reader {
 public:
  explicit Reader(size_t capacity = 1000)
      : sink_(std::make_shared<TokenSink>(capacity, [signal = signal_] { signal->Raise(); })),
        transcript_(sink_) {}

  const std::shared_ptr<TokenSink>& sink() const { return sink_; }
  // Reads all up to the end.
  Transcript& ReadAll() {
    while (!transcript_.end) {
      if (transcript_.Read() == 0) signal_->Await();
    }
    return transcript_;
  }
  // Reads until `tokens` tokens have come.
  void ReadTokens(size_t tokens) {
    while (transcript_.tokens[0].size() < tokens && !transcript_.end) {
      if (transcript_.Read(1) == 0) signal_->Await();
    }
  }

 private:
  class Signal {
   public:
    void Raise() {
      std::lock_guard lock(mu_);
      raised_ = true;
      changed_.notify_one();
    }
    void Await() {
      std::unique_lock lock(mu_);
      changed_.wait(lock, [this] { return raised_; });
      raised_ = false;
    }

   private:
    std::mutex mu_;
    std::condition_variable changed_;
    bool raised_ = false;
  };

  std::shared_ptr<Signal> signal_ = std::make_shared<Signal>();
  std::shared_ptr<TokenSink> sink_;
  Transcript transcript_;
};

// How the model runs ahead must not show.
class EngineTest : public testing::TestWithParam<OracleModel::Ahead> {
 protected:
  static std::shared_ptr<OracleModel> NewModel(ForwardLimits limits = {}) {
    return std::make_shared<OracleModel>(limits, GetParam());
  }
  static std::unique_ptr<Engine> NewEngine(EngineOptions options = {.state_slots = 8, .seed = 1}) {
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(NewModel(), nullptr, options);
    EXPECT_TRUE(engine.ok()) << engine.status();
    return *std::move(engine);
  }
};

// A verb as a call.
template <class Verb>
absl::StatusOr<SessionInfo> Answer(Verb verb) {
  std::promise<absl::StatusOr<SessionInfo>> promise;
  verb([&](absl::StatusOr<SessionInfo> info) { promise.set_value(std::move(info)); });
  return promise.get_future().get();
}

uint64_t Finished(const EngineStats& stats) {
  uint64_t finished = 0;
  for (const auto& by_code : stats.requests_finished) {
    for (const uint64_t count : by_code) finished += count;
  }
  return finished;
}

TEST_P(EngineTest, ServesRequestsOnItsThread) {
  const auto engine = NewEngine();
  engine->Start();
  const GenerationRequest request = TokensRequest({1, 2, 3}, 20);
  Reader reader;
  ASSERT_TRUE(engine->Submit(request, reader.sink()).ok());
  EXPECT_EQ(reader.ReadAll().tokens[0], OracleRun(OracleState(), request, 7).tokens);
  EXPECT_TRUE(engine->healthy(absl::Now()));
}

TEST_P(EngineTest, ManyStreamsEqualOneByOne) {
  const auto engine = NewEngine({.state_slots = 16, .seed = 1});
  engine->Start();
  constexpr int kThreads = 4;
  constexpr int kStreams = 25;
  std::vector<std::thread> threads;
  for (int thread = 0; thread < kThreads; ++thread) {
    threads.emplace_back([&, thread] {
      for (int i = 0; i < kStreams; ++i) {
        GenerationRequest request = TokensRequest({1, static_cast<uint32_t>(2 + i)}, 40);
        request.sampling.seed = thread * 1000 + i;
        Reader reader(/*capacity=*/static_cast<size_t>(1 + i % 5));
        ASSERT_TRUE(engine->Submit(request, reader.sink()).ok());
        EXPECT_EQ(reader.ReadAll().tokens[0],
                  OracleRun(OracleState(), request, *request.sampling.seed).tokens);
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(Finished(engine->Stats()), uint64_t{kThreads} * kStreams);
}

TEST_P(EngineTest, CountsAreWholeAtEveryLookUnderAStormOfCancels) {
  const auto engine = NewEngine({.state_slots = 4, .queue_requests_max = 64, .seed = 1});
  engine->Start();
  std::atomic<bool> done{false};
  uint64_t looks = 0;
  std::thread scraper([&] {
    while (!done) {
      const EngineStats stats = engine->Stats();
      ASSERT_EQ(stats.requests_accepted, Finished(stats) + stats.requests_running + stats.requests_waiting);
      ASSERT_LE(stats.state_slots_used, stats.state_slots);
      ++looks;
    }
  });
  constexpr int kThreads = 3;
  constexpr int kRounds = 300;
  std::atomic<uint64_t> accepted{0};
  std::vector<std::thread> stormers;
  for (int thread = 0; thread < kThreads; ++thread) {
    stormers.emplace_back([&, thread] {
      for (int i = 0; i < kRounds; ++i) {
        GenerationRequest request = TokensRequest({1, 2, 3, 4}, 1u << 20);
        request.stop.ignore_eos = true;
        Reader reader(/*capacity=*/4);
        const absl::StatusOr<RequestTicket> ticket = engine->Submit(request, reader.sink());
        if (!ticket.ok()) continue;
        ++accepted;
        if ((i + thread) % 3 != 0) reader.ReadTokens(static_cast<size_t>(i % 4));
        engine->Cancel(*ticket);
        engine->Cancel(*ticket);
        EXPECT_TRUE(absl::IsCancelled(reader.ReadAll().end->status));
        engine->Cancel(*ticket);
      }
    });
  }
  for (std::thread& thread : stormers) thread.join();
  done = true;
  scraper.join();
  const EngineStats stats = engine->Stats();
  std::printf("%llu looks at the ledger, %llu requests cancelled\n", static_cast<unsigned long long>(looks),
              static_cast<unsigned long long>(accepted.load()));
  EXPECT_GT(looks, 0u);
  EXPECT_EQ(stats.requests_accepted, accepted.load());
  EXPECT_EQ(Finished(stats), accepted.load());
  EXPECT_EQ(stats.requests_running + stats.requests_waiting, 0u);
}

TEST_P(EngineTest, SessionVerbsAnswerFromAnyThread) {
  const auto engine = NewEngine({.state_slots = 16, .sessions_max = 12, .seed = 1});
  engine->Start();
  std::vector<std::thread> threads;
  for (int thread = 0; thread < 3; ++thread) {
    threads.emplace_back([&, thread] {
      const absl::Time deadline = absl::Now() + kPatience;
      const std::string id = "s" + std::to_string(thread);
      ASSERT_TRUE(Answer([&](SessionDone done) { engine->CreateSession({.id = id}, deadline, done); }).ok());
      OracleState state;
      for (uint32_t turn = 0; turn < 20; ++turn) {
        const GenerationRequest request = TokensRequest({1 + turn, 9}, 5, id);
        const OracleRun expected(state, request, 7);
        Reader reader;
        ASSERT_TRUE(engine->Submit(request, reader.sink()).ok());
        EXPECT_EQ(reader.ReadAll().tokens[0], expected.tokens);
        state = expected.FinalState();
        const auto info = Answer([&](SessionDone done) { engine->GetSession(id, deadline, done); });
        ASSERT_TRUE(info.ok());
        EXPECT_EQ(info->position, state.position);
        EXPECT_EQ(info->state, SessionState::kIdle);
        const auto fork =
            Answer([&](SessionDone done) { engine->ForkSession({.source_id = id}, deadline, done); });
        ASSERT_TRUE(fork.ok()) << fork.status();
        EXPECT_TRUE(
            Answer([&](SessionDone done) { engine->DeleteSession({.id = fork->id}, deadline, done); }).ok());
      }
    });
  }
  for (std::thread& thread : threads) thread.join();
}

TEST_P(EngineTest, AVerbWhoseDeadlineHasPassedIsNotTakenUp) {
  const auto engine = NewEngine();
  const absl::Time now = absl::FromUnixSeconds(5);
  absl::Status status;
  engine->CreateSession({.id = "late"}, now,
                        [&](absl::StatusOr<SessionInfo> info) { status = info.status(); });
  engine->Tick(now);
  EXPECT_TRUE(absl::IsDeadlineExceeded(status));
  EXPECT_EQ(engine->Stats().state_slots_used, 0u);
}

TEST_P(EngineTest, EndsOpenRequestsWhenItGoes) {
  Reader running;
  Reader waiting;
  absl::Status verb;
  {
    const auto engine = NewEngine({.state_slots = 1, .sessions_max = 0, .seed = 1});
    GenerationRequest request = TokensRequest({1}, 1u << 20);
    request.stop.ignore_eos = true;
    ASSERT_TRUE(engine->Submit(request, running.sink()).ok());
    ASSERT_TRUE(engine->Submit(request, waiting.sink()).ok());
    for (int i = 0; i < 5; ++i) engine->Tick(absl::FromUnixSeconds(i));
    engine->CreateSession({}, absl::InfiniteFuture(),
                          [&](absl::StatusOr<SessionInfo> info) { verb = info.status(); });
  }
  EXPECT_TRUE(absl::IsUnavailable(running.ReadAll().end->status));
  EXPECT_TRUE(absl::IsUnavailable(waiting.ReadAll().end->status));
  EXPECT_TRUE(absl::IsUnavailable(verb));
}

TEST_P(EngineTest, DrainLetsTheRunningStreamEndWhole) {
  const auto engine = NewEngine();
  engine->Start();
  GenerationRequest request = TokensRequest({1, 2, 3}, 400);
  request.stop.ignore_eos = true;
  Reader reader(/*capacity=*/2);
  ASSERT_TRUE(engine->Submit(request, reader.sink()).ok());
  reader.ReadTokens(3);
  std::promise<void> drained;
  engine->Drain(absl::Now() + kPatience, [&] { drained.set_value(); });
  Reader late;
  EXPECT_TRUE(absl::IsUnavailable(engine->Submit(request, late.sink()).status()));
  EXPECT_EQ(reader.ReadAll().tokens[0].size(), 400u);
  drained.get_future().wait();
}

TEST_P(EngineTest, RefusesABudgetThatHoldsNoSlotNamingNeedAndBudget) {
  const absl::Status status = Engine::Create(NewModel(), nullptr, {.state_memory_bytes = 63}).status();
  EXPECT_TRUE(absl::IsResourceExhausted(status));
  EXPECT_NE(status.message().find("64"), absl::string_view::npos);
  EXPECT_NE(status.message().find("63"), absl::string_view::npos);
}

TEST_P(EngineTest, ResolvesSlotsAndSessionsFromTheBudget) {
  const auto engine = NewEngine({.state_memory_bytes = 64 * 40});
  EXPECT_EQ(engine->options().state_slots, 40u);
  EXPECT_EQ(engine->options().sessions_max, 35u);
  EXPECT_EQ(engine->limits().state_slots, 40u);
  uint64_t pool_bytes = 0;
  for (const MemoryAddend& addend : engine->MemoryLedger()) {
    if (addend.name == "state pool") pool_bytes = addend.bytes;
  }
  EXPECT_EQ(pool_bytes, 64u * 40);
}

TEST_P(EngineTest, ReportsSlotsAndDecodeRowsAsTheyAre) {
  const auto engine = Engine::Create(NewModel({.decode_rows = 6}), nullptr,
                                     {.state_slots = 8, .decode_rows_max = 6, .seed = 1});
  ASSERT_TRUE(engine.ok()) << engine.status();
  EXPECT_EQ((*engine)->limits().state_slots, 8u);
  EXPECT_EQ((*engine)->limits().decode_rows, 6u);
}

TEST_P(EngineTest, RefusesOptionsThatMakeNoSenseNamingThem) {
  const auto field_of = [](EngineOptions options) {
    return DetailOf(Engine::Create(NewModel(), nullptr, options).status()).field;
  };
  EXPECT_EQ(field_of({.state_slots = 4, .sessions_max = 4}), "sessions_max");
  EXPECT_EQ(field_of({.state_slots = 65537}), "state_slots");
  EXPECT_EQ(field_of({.state_slots = 4, .queue_requests_max = 0}), "queue_requests_max");
  EXPECT_EQ(field_of({.state_slots = 4, .decode_rows_max = 0}), "decode_rows_max");
  for (const double share : {0.0, -0.5, 1.01, std::nan("")})
    EXPECT_EQ(field_of({.state_slots = 4, .prompt_share = share}), "prompt_share");
  EXPECT_EQ(field_of({.state_slots = 4, .prompt_tokens_per_pass = 0}), "prompt_tokens_per_pass");
  EXPECT_EQ(field_of({.state_slots = 4, .stall_timeout = absl::ZeroDuration()}), "stall_timeout");
}

TEST_P(EngineTest, SleepsWhenThereIsNothingToDo) {
  auto model = NewModel();
  auto engine = Engine::Create(model, nullptr, {.state_slots = 4, .seed = 1});
  ASSERT_TRUE(engine.ok());
  const absl::Time now = absl::FromUnixSeconds(1);
  const TickReport report = (*engine)->Tick(now);
  EXPECT_TRUE(report.idle);
  EXPECT_EQ(report.next_event, absl::InfiniteFuture());
  bool created = false;
  (*engine)->CreateSession({.ttl = absl::Seconds(9)}, absl::InfiniteFuture(),
                           [&](absl::StatusOr<SessionInfo> info) { created = info.ok(); });
  EXPECT_FALSE((*engine)->Tick(now).idle);
  EXPECT_TRUE(created);
  EXPECT_TRUE((*engine)->Tick(now).idle);
  EXPECT_EQ((*engine)->Tick(now).next_event, now + absl::Seconds(9));
}

INSTANTIATE_TEST_SUITE_P(Ahead, EngineTest,
                         testing::Values(OracleModel::Ahead::kNo, OracleModel::Ahead::kEarly,
                                         OracleModel::Ahead::kLate));

}  // namespace
}  // namespace mambad
