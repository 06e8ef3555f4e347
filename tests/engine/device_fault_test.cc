// An engine on a GPU that fails at any call, or stops answering at any wait: every request has exactly one
// end, in time, and nothing of what the device held then comes out.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "absl/time/clock.h"
#include "engine/engine.h"
#include "engine/error.h"
#include "tests/support/fake_gpu.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_model.h"

namespace mambad {
namespace {

constexpr absl::Duration kTickTime = absl::Milliseconds(1);

EngineOptions Options() {
  return {.state_slots = 8,
          .sessions_max = 4,
          .prompt_tokens_per_pass = 4,
          .prompt_tokens_per_pass_idle = 4,
          .prompt_time_per_pass = absl::InfiniteDuration(),
          .prompt_time_per_pass_idle = absl::InfiniteDuration(),
          .seed = 1};
}

std::vector<uint32_t> Prompt(uint32_t size) {
  std::vector<uint32_t> prompt(size);
  for (uint32_t i = 0; i < size; ++i) prompt[i] = 1 + i;
  return prompt;
}

GenerationRequest Generate(uint32_t prompt, uint32_t tokens, std::string session = "",
                           uint32_t candidates = 1) {
  GenerationRequest request = TokensRequest(Prompt(prompt), tokens, std::move(session));
  request.stop.ignore_eos = true;
  request.candidate_count = candidates;
  return request;
}

GenerationRequest Append(uint32_t prompt, std::string session) {
  GenerationRequest request = Generate(prompt, 1, std::move(session));
  request.method = Method::kAppendInput;
  return request;
}

GenerationRequest Score(uint32_t context, uint32_t text) {
  GenerationRequest request = Generate(context, 1);
  request.method = Method::kScore;
  request.score_text = Prompt(text);
  return request;
}

bool IsDeviceLost(const absl::Status& status) {
  return DetailOf(status).reason == reason::kDeviceLost &&
         (absl::IsInternal(status) || absl::IsUnavailable(status));
}

// Requests and verbs on an engine on the fake GPU, each by a name, and what came of them.
class Life {
 public:
  explicit Life(OracleModel::Ahead ahead) : ahead_(ahead) {}

  absl::Status Begin() {
    absl::StatusOr<std::shared_ptr<OracleModel>> model = OracleModel::OnGpu({}, ahead_);
    if (!model.ok()) return model.status();
    absl::StatusOr<std::unique_ptr<Engine>> engine = Engine::Create(*model, nullptr, Options());
    if (!engine.ok()) return engine.status();
    engine_ = *std::move(engine);
    return absl::OkStatus();
  }

  Engine& engine() { return *engine_; }
  std::map<std::string, Transcript>& requests() { return requests_; }
  const std::map<std::string, std::vector<absl::Status>>& verbs() const { return verbs_; }

  absl::Status Submit(const std::string& name, GenerationRequest request) {
    auto sink = std::make_shared<TokenSink>(1000, nullptr);
    const absl::StatusOr<RequestTicket> ticket = engine_->Submit(std::move(request), sink);
    if (!ticket.ok()) return ticket.status();
    requests_.emplace(name, Transcript(sink));
    tickets_[name] = *ticket;
    return absl::OkStatus();
  }
  void Cancel(const std::string& name) {
    if (tickets_.contains(name)) engine_->Cancel(tickets_[name]);
  }
  void Create(const std::string& id) {
    engine_->CreateSession({.id = id}, absl::InfiniteFuture(), Answer("create " + id));
  }
  void Fork(const std::string& id, const std::string& fork) {
    engine_->ForkSession({.source_id = id, .id = fork}, absl::InfiniteFuture(), Answer("fork " + fork));
  }
  void Delete(const std::string& id) {
    engine_->DeleteSession({.id = id}, absl::InfiniteFuture(), Answer("delete " + id));
  }

  // Everything that reaches the device: slots zeroed and copied, prompts, steps, scores, turns undone. Goes
  // on whatever fails.
  void Live() {
    for (int tick = 0; tick < 15 || !idle_; ++tick) {
      ASSERT_LT(tick, 1000) << "the engine does not come to rest";
      Act(tick);
      Tick();
    }
  }
  void Tick() {
    now_ += kTickTime;
    const bool had_failed = Gpu().failed;
    idle_ = engine_->Tick(now_).idle;
    for (auto& [name, transcript] : requests_) transcript.Read();
    EXPECT_TRUE(!had_failed || !healthy() || idle_) << "served on with a lost device";
  }
  bool healthy() const { return engine_->healthy(now_); }
  void End() { engine_.reset(); }

 private:
  const OracleModel::Ahead ahead_;
  void Act(int tick) {
    switch (tick) {
      case 0:
        Create("a");
        Create("b");
        (void)Submit("three", Generate(5, 6, "", 3));
        (void)Submit("waits", Generate(2, 3, "", 4));
        break;
      case 1:
        (void)Submit("first turn", Generate(6, 3, "a"));
        (void)Submit("append", Append(3, "b"));
        break;
      case 6:
        (void)Submit("second turn", Generate(6, 3, "a"));
        (void)Submit("score", Score(3, 6));
        Fork("b", "c");
        Create("d");
        break;
      case 7:
        (void)Submit("undone", Generate(40, 3, "d"));
        break;
      case 10:
        Cancel("undone");
        break;
      case 12:
        Delete("c");
        break;
      default:
        break;
    }
  }
  SessionDone Answer(const std::string& name) {
    verbs_[name];
    return [this, name](absl::StatusOr<SessionInfo> info) { verbs_[name].push_back(info.status()); };
  }

  std::map<std::string, std::vector<absl::Status>> verbs_;  // outlives the engine, which answers when it goes
  std::map<std::string, Transcript> requests_;
  std::map<std::string, RequestTicket> tickets_;
  std::unique_ptr<Engine> engine_;
  absl::Time now_ = absl::FromUnixSeconds(1000);
  bool idle_ = false;
};

void ExpectConserved(const EngineStats& stats) {
  uint64_t finished = 0;
  for (const auto& by_code : stats.requests_finished) {
    for (const uint64_t count : by_code) finished += count;
  }
  EXPECT_EQ(stats.requests_accepted, finished);
  EXPECT_EQ(stats.requests_running + stats.requests_waiting, 0u);
}

// What came out is a beginning of what `whole` got, and the end is the same one or the loss of the device.
void ExpectBeginningOf(Transcript& whole, Transcript& got) {
  ASSERT_TRUE(got.end.has_value());
  const bool lost = IsDeviceLost(got.end->status);
  EXPECT_TRUE(lost || got.end->status == whole.end->status) << got.end->status;
  for (const auto& [candidate, tokens] : got.tokens) {
    const std::vector<uint32_t>& all = whole.tokens[candidate];
    ASSERT_LE(tokens.size(), all.size());
    EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), all.begin()));
    EXPECT_TRUE(lost || tokens.size() == all.size());
  }
  EXPECT_TRUE(lost || got.finished.size() == whole.finished.size());
}

void ExpectNothingIsAccepted(Life& life) {
  EXPECT_TRUE(absl::IsUnavailable(life.Submit("late", Generate(1, 1))));
  life.Create("late");
  life.Fork("a", "late");
  life.Tick();
  EXPECT_TRUE(absl::IsUnavailable(life.verbs().at("create late").at(0)));
  EXPECT_TRUE(absl::IsUnavailable(life.verbs().at("fork late").at(0)));
}

class DeviceFaultTest : public testing::TestWithParam<OracleModel::Ahead> {
 protected:
  void SetUp() override { Gpu() = FakeGpu(); }
  void TearDown() override { EXPECT_EQ(Gpu().outstanding, 0); }
};

TEST_P(DeviceFaultTest, AFailureAtAnyCallEndsEveryRequestOnce) {
  uint64_t calls = 0;
  Life whole(GetParam());
  ASSERT_TRUE(whole.Begin().ok());
  const uint64_t calls_before_life = Gpu().calls;
  whole.Live();
  calls = Gpu().calls;
  ASSERT_EQ(whole.requests().size(), 7u);
  for (const auto& [name, transcript] : whole.requests()) ASSERT_TRUE(transcript.end.has_value()) << name;
  whole.End();  // a failure takes the memory of every engine away
  uint64_t begun = 0;
  for (uint64_t n = 1; n <= calls; ++n) {
    SCOPED_TRACE("call " + std::to_string(n));
    Gpu() = FakeGpu();
    Gpu().fail_from = n;
    {
      Life life(GetParam());
      if (!life.Begin().ok()) {
        EXPECT_LE(n, calls_before_life);
        continue;
      }
      ++begun;
      life.Live();
      ASSERT_TRUE(Gpu().failed);
      // What only frees a slot tells nobody; then the next request finds out.
      if (life.healthy()) {
        (void)life.Submit("probe", Generate(1, 1));
        life.Tick();
      }
      EXPECT_FALSE(life.healthy());
      for (auto& [name, transcript] : life.requests()) {
        SCOPED_TRACE(name);
        if (name != "probe") ExpectBeginningOf(whole.requests().at(name), transcript);
      }
      for (const auto& [name, answers] : life.verbs()) EXPECT_EQ(answers.size(), 1u) << name;
      ExpectNothingIsAccepted(life);
      ExpectConserved(life.engine().Stats());
    }
    EXPECT_EQ(Gpu().outstanding, 0);
  }
  EXPECT_GE(begun, calls - calls_before_life);
  std::printf("%llu calls failed in turn, %llu of them in a running engine\n",
              static_cast<unsigned long long>(calls), static_cast<unsigned long long>(begun));
}

// Serves on a thread of its own until the first wait from `call` of its life on hangs. Returns the call after
// that wait, or 0 when nothing hung.
uint64_t LiveUntilAHang(uint64_t call, kernels::gpu::Code comes_back_with, OracleModel::Ahead ahead) {
  Gpu() = FakeGpu();
  Life life(ahead);
  EXPECT_TRUE(life.Begin().ok());
  Engine& engine = life.engine();
  const uint64_t base = Gpu().calls;
  Gpu().hang_from = base + call;
  life.Create("a");
  EXPECT_TRUE(life.Submit("three", Generate(5, 4, "", 3)).ok());
  EXPECT_TRUE(life.Submit("turn", Generate(3, 4, "a")).ok());
  EXPECT_TRUE(life.Submit("waits", Generate(2, 2, "", 5)).ok());
  const auto all_ended = [&] {
    return std::ranges::all_of(life.requests(), [](auto& request) {
      request.second.Read();
      return request.second.end.has_value();
    });
  };
  engine.Start();
  while (!GpuHangs() && !all_ended()) std::this_thread::yield();
  if (!GpuHangs()) {
    EndGpuHang(0);  // what follows waits too
    return 0;
  }

  const uint64_t hung_at = Gpu().calls - base;  // its one user waits
  const absl::Time now = absl::Now();
  EXPECT_TRUE(engine.healthy(now));
  EXPECT_FALSE(engine.healthy(now + engine.options().device_timeout + absl::Milliseconds(1)));
  life.Create("before");
  EXPECT_TRUE(life.Submit("before", Generate(1, 1)).ok());
  engine.LoseDevice();
  life.Create("after");
  EXPECT_TRUE(absl::IsUnavailable(life.Submit("after", Generate(1, 1))));
  EXPECT_TRUE(all_ended()) << "some request is still open";
  EXPECT_FALSE(engine.healthy(now));
  ExpectConserved(engine.Stats());
  for (const char* verb : {"create before", "create after"}) {
    EXPECT_EQ(life.verbs().at(verb).size(), 1u);
    EXPECT_TRUE(absl::IsUnavailable(life.verbs().at(verb).at(0)));
  }
  std::map<std::string, size_t> tokens;
  for (auto& [name, transcript] : life.requests()) {
    EXPECT_TRUE(transcript.end->status.ok() || IsDeviceLost(transcript.end->status)) << name;
    tokens[name] = transcript.tokens[0].size();
  }
  EXPECT_TRUE(absl::IsUnavailable(life.requests().at("before").end->status)) << "no tick had taken it up";
  engine.LoseDevice();

  // The device comes back: too late.
  EndGpuHang(comes_back_with);
  life.End();
  for (auto& [name, transcript] : life.requests()) {
    EXPECT_EQ(transcript.Read(), 0u);
    EXPECT_EQ(transcript.tokens[0].size(), tokens[name]);
  }
  for (const auto& [name, answers] : life.verbs()) EXPECT_EQ(answers.size(), 1u) << name;
  return hung_at + 1;
}

TEST_P(DeviceFaultTest, AHangAtAnyWaitEndsEveryRequestOnce) {
  int hangs = 0;
  for (uint64_t call = 1; call != 0;) {
    SCOPED_TRACE("call " + std::to_string(call));
    call = LiveUntilAHang(call, hangs % 2 == 0 ? 0 : FakeGpu::kFailure, GetParam());
    if (HasFailure()) return;
    if (call != 0) ++hangs;
  }
  EXPECT_GT(hangs, 10);
  std::printf("%d waits hung in turn\n", hangs);
}

// Three verbs of one tick: a session whose slot is being emptied, and two that wait behind it.
TEST_P(DeviceFaultTest, AHangThatHasTakenVerbsUpAnswersEachOnce) {
  for (const kernels::gpu::Code comes_back_with : {kernels::gpu::Code{0}, FakeGpu::kFailure}) {
    Gpu() = FakeGpu();
    Life life(GetParam());
    ASSERT_TRUE(life.Begin().ok());
    Gpu().hang_from = Gpu().calls + 1;
    Gpu().fills_hang = true;
    life.Create("a");
    life.Create("b");
    life.Fork("a", "c");
    life.engine().Start();
    while (!GpuHangs()) std::this_thread::yield();
    life.engine().LoseDevice();
    for (const auto& [name, answers] : life.verbs()) {
      ASSERT_EQ(answers.size(), 1u) << name;
      EXPECT_TRUE(absl::IsUnavailable(answers[0])) << name;
      EXPECT_TRUE(IsDeviceLost(answers[0])) << name;
    }
    EndGpuHang(comes_back_with);
    life.End();
    EXPECT_EQ(life.verbs().size(), 3u);
    for (const auto& [name, answers] : life.verbs()) EXPECT_EQ(answers.size(), 1u) << name;
  }
}

INSTANTIATE_TEST_SUITE_P(Ahead, DeviceFaultTest,
                         testing::Values(OracleModel::Ahead::kNo, OracleModel::Ahead::kEarly,
                                         OracleModel::Ahead::kLate));

}  // namespace
}  // namespace mambad
