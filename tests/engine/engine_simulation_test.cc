// Random requests, session verbs, cancels, deadlines, slow readers and faults, against a plain reference of
// the sessions: a map from id to the state that the session must have. Time is an argument; a run is a
// function of its seed.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <set>

#include "engine/error.h"
#include "tests/support/loop_harness.h"
#include "tests/support/oracle_run.h"

namespace mambad {
namespace {

using Tokens = std::vector<uint32_t>;

// What must be true of a session. While a request is open, `state` is the one that the turn began with.
struct ReferenceSession {
  OracleState state;
  absl::Duration ttl;
  absl::Time expires_after;  // it cannot be gone before
  RequestTicket open = 0;
};

struct ReferenceRequest {
  GenerationRequest request;
  std::string session;  // that it runs on; empty: stateless, or refused before it ran
  OracleState start;
  absl::StatusCode refusal = absl::StatusCode::kOk;  // known when its command was taken
  int reads_one_in = 1;                              // ticks; 0: never
  uint64_t accepted_tick = 0;
  bool cancelled = false;
};

struct Totals {
  uint64_t ticks = 0;
  uint64_t session_operations = 0;
  uint64_t requests = 0;
  uint64_t tokens = 0;
  absl::Duration queue_time_max;  // of the highest priority
  std::map<absl::StatusCode, uint64_t> ends;
};

class Simulation {
 public:
  // Every other seed has a narrow state; how the model runs ahead goes by three, parts of a pass by four.
  Simulation(uint64_t seed, Totals* totals)
      : random_(seed),
        totals_(*totals),
        harness_(Options(),
                 std::make_shared<OracleModel>(kLimits, static_cast<OracleModel::Ahead>(seed / 2 % 3),
                                               /*narrow=*/seed % 2 != 0)) {
    harness_.oracle().SetParts(1 + static_cast<uint32_t>(seed / 6 % 4));
  }

  void Run(int steps) {
    for (int step = 0; step < steps && !testing::Test::HasFatalFailure(); ++step) {
      for (int i = Below(4); i > 0; --i) Act();
      Step();
      if (OneIn(150)) harness_.Advance(absl::Milliseconds(Below(1500)));
    }
    ComeToRest();
  }

 private:
  static constexpr uint64_t kTicksToRest = 20000;
  static constexpr uint64_t kTicksToClose = 1000;
  static constexpr int kPriorityMax = 2;
  static constexpr ForwardLimits kLimits = {.decode_rows = 8, .prompt_tokens = 32};

  int Below(int bound) { return static_cast<int>(random_() % static_cast<uint64_t>(bound)); }
  bool OneIn(int n) { return Below(n) == 0; }

  HarnessOptions Options() {
    HarnessOptions options;
    options.engine.state_slots = static_cast<uint32_t>(3 + Below(10));
    options.engine.sessions_max =
        1 + static_cast<uint32_t>(Below(static_cast<int>(options.engine.state_slots) - 1));
    options.engine.queue_requests_max = 20;
    options.engine.decode_rows_max = static_cast<uint32_t>(1 + Below(8));
    options.engine.prompt_tokens_per_pass = static_cast<uint32_t>(1 + Below(24));
    options.engine.prompt_tokens_per_pass_idle = static_cast<uint32_t>(1 + Below(40));
    options.engine.prompt_share = OneIn(4) ? 1 : kOnePart;
    options.engine.stall_timeout = absl::Milliseconds(150);
    options.engine.seed = random_();
    return options;
  }

  // Of ids few enough that they meet.
  std::string AnyId() { return std::string(1, static_cast<char>('a' + Below(12))); }

  // Mostly one that exists.
  std::string SomeId() {
    if (sessions_.empty() || OneIn(8)) return AnyId();
    return std::next(sessions_.begin(), Below(static_cast<int>(sessions_.size())))->first;
  }

  Tokens AnyPrompt(int size_max) {
    Tokens prompt(static_cast<size_t>(Below(size_max + 1)));
    for (uint32_t& token : prompt) token = static_cast<uint32_t>(Below(OracleModel::kPoisonToken));
    if (!prompt.empty() && OneIn(40)) prompt[random_() % prompt.size()] = OracleModel::kPoisonToken;
    return prompt;
  }

  void Act() {
    const int what = Below(20);
    if (what < 3) return Create();
    if (what < 5) return Fork();
    if (what < 6) return Delete();
    if (what < 7) return List();
    if (what < 10) return SubmitStateless();
    if (what < 11) return Cancel();
    SubmitOnSession();
  }

  // The session as the engine has it at this point of its commands; null when it is not there. An idle one is
  // compared whole with the reference.
  ReferenceSession* Observe(const std::string& id, const absl::StatusOr<SessionInfo>& info) {
    ++totals_.session_operations;
    const auto entry = sessions_.find(id);
    if (!info.ok()) {
      EXPECT_TRUE(absl::IsNotFound(info.status()));
      if (entry == sessions_.end()) return nullptr;
      ReadToEnd(entry->second);
      EXPECT_GE(harness_.now(), entry->second.expires_after) << "a session is gone too early";
      sessions_.erase(entry);
      return nullptr;
    }
    EXPECT_NE(entry, sessions_.end()) << "a session lives on";
    if (entry == sessions_.end()) return nullptr;
    ReferenceSession& session = entry->second;
    if (info->state == SessionState::kIdle) {
      ReadToEnd(session);
      session.expires_after = info->expire_time;
      EXPECT_GT(session.expires_after, harness_.now());
      EXPECT_EQ(info->position, session.state.position);
      // A state that nobody will read any more may have gone a step too far.
      if (session.state.poisoned != 0) {
        EXPECT_NE(harness_.StateOf(id).poisoned, 0u);
      } else {
        EXPECT_EQ(harness_.StateOf(id), session.state);
      }
    } else {
      EXPECT_NE(session.open, 0u);
    }
    return &session;
  }

  // The session has no open request any more: what the last one was is in its sink.
  void ReadToEnd(ReferenceSession& session) {
    if (session.open == 0) return;
    Transcript& got = harness_.Of(session.open);
    got.Read();
    EXPECT_TRUE(got.end.has_value()) << "an idle session with an open request";
    if (got.end) CloseRequest(session.open);
  }

  void Create() {
    CreateSessionRequest request;
    if (!OneIn(8)) request.id = AnyId();
    request.ttl = absl::Seconds(1 + Below(4));
    const bool taken = sessions_.contains(request.id);
    harness_.PostCreate(request, [this, request, taken](absl::StatusOr<SessionInfo> info) {
      ++totals_.session_operations;
      if (info.ok()) {
        if (taken) sessions_.erase(request.id);  // it had expired
        EXPECT_EQ(harness_.StateOf(info->id), OracleState());
        AddSession(*info, OracleState());
      } else if (absl::IsAlreadyExists(info.status())) {
        EXPECT_TRUE(sessions_.contains(request.id));
      } else {
        ExpectNoRoom(info.status());
      }
    });
  }

  void AddSession(const SessionInfo& info, const OracleState& state) {
    EXPECT_EQ(info.position, state.position);
    const bool is_new =
        sessions_
            .emplace(info.id,
                     ReferenceSession{.state = state, .ttl = *info.ttl, .expires_after = info.expire_time})
            .second;
    EXPECT_TRUE(is_new);
  }

  void ExpectNoRoom(const absl::Status& status) {
    EXPECT_EQ(DetailOf(status).reason, reason::kNoFreeSlot) << status;
    EXPECT_TRUE(DetailOf(status).retry_after.has_value());
    const EngineStats stats = harness_.ledger.Stats();
    EXPECT_TRUE(harness_.loop.pool().free() == 0 || sessions_.size() >= harness_.options.sessions_max ||
                stats.requests_waiting > 0);
  }

  void Fork() {
    const std::string source_id = SomeId();
    const std::string id = AnyId();
    harness_.PostGet(source_id,
                     [this, source_id](absl::StatusOr<SessionInfo> info) { Observe(source_id, info); });
    harness_.PostFork({.source_id = source_id, .id = id},
                      [this, source_id, id](absl::StatusOr<SessionInfo> info) {
                        ++totals_.session_operations;
                        const auto source = sessions_.find(source_id);
                        if (source == sessions_.end()) {
                          EXPECT_TRUE(absl::IsNotFound(info.status())) << info.status();
                        } else if (info.ok()) {
                          sessions_.erase(id);  // it had expired
                          const OracleState state = StateAt(source->second, info->position);
                          EXPECT_EQ(harness_.StateOf(id), state);
                          AddSession(*info, state);
                        } else if (source->second.state.poisoned != 0) {
                          EXPECT_EQ(DetailOf(info.status()).reason, reason::kStatePoisoned);
                        } else if (!absl::IsAlreadyExists(info.status())) {
                          ExpectNoRoom(info.status());
                        }
                      });
  }

  // The state of a session, idle or in its turn, when it has consumed `position` tokens.
  OracleState StateAt(const ReferenceSession& session, uint64_t position) {
    if (position == session.state.position || session.open == 0) return session.state;
    const ReferenceRequest& open = requests_.at(session.open);
    EXPECT_NE(open.request.method, Method::kScore);
    const OracleRun run(open.start, open.request, *open.request.sampling.seed);
    const uint64_t read = run.StateAfter(0).position;
    EXPECT_GE(position, read);
    return run.StateAfter(position - read);
  }

  void Delete() {
    const std::string id = SomeId();
    const bool wrong_etag = OneIn(4);
    harness_.PostGet(id, [this, id](absl::StatusOr<SessionInfo> info) { Observe(id, info); });
    harness_.PostDelete({.id = id, .etag = wrong_etag ? "stale" : ""},
                        [this, id, wrong_etag](absl::StatusOr<SessionInfo> info) {
                          ++totals_.session_operations;
                          const auto entry = sessions_.find(id);
                          if (entry == sessions_.end()) {
                            EXPECT_TRUE(absl::IsNotFound(info.status()));
                          } else if (wrong_etag) {
                            EXPECT_EQ(DetailOf(info.status()).reason, reason::kEtagMismatch);
                          } else {
                            EXPECT_TRUE(info.ok());
                            if (entry->second.open != 0) requests_.at(entry->second.open).cancelled = true;
                            sessions_.erase(entry);
                          }
                        });
  }

  void List() {
    ++totals_.session_operations;
    auto listed = std::make_shared<std::set<std::string>>();
    ListPage("", listed);
  }

  // One page a tick, while sessions come and go: none twice, and none that does not exist.
  void ListPage(const std::string& token, std::shared_ptr<std::set<std::string>> listed) {
    ListCommand list;
    list.request.page_size = 3;
    list.request.page_token = token;
    list.deadline = absl::InfiniteFuture();
    list.done = [this, listed](absl::StatusOr<SessionPage> page) {
      ASSERT_TRUE(page.ok());
      for (const SessionInfo& info : page->sessions) {
        EXPECT_TRUE(sessions_.contains(info.id));
        EXPECT_TRUE(listed->insert(info.id).second);
      }
      if (!page->next_page_token.empty()) ListPage(page->next_page_token, listed);
    };
    harness_.mailbox.PostVerb(std::move(list));
  }

  GenerationRequest AnyRequest() {
    GenerationRequest request;
    request.priority = Below(kPriorityMax + 1);
    request.sampling.seed = random_();
    request.sampling.temperature = OneIn(4) ? 0.0f : 1.0f;
    if (OneIn(4)) request.sampling.presence_penalty = 0.5f;
    if (OneIn(10)) request.sampling.logit_bias = {{OracleModel::kPoisonToken, 100.0f}};
    request.stop.max_output_tokens = static_cast<uint32_t>(1 + Below(40));
    request.stop.min_output_tokens =
        static_cast<uint32_t>(Below(static_cast<int>(request.stop.max_output_tokens)));
    request.stop.ignore_eos = OneIn(4);
    request.stop.consume_stop_token = OneIn(2);
    if (OneIn(3)) request.stop.stop_token_ids = {5, 17, 63};
    request.prompt = AnyPrompt(OneIn(5) ? 200 : 12);
    if (OneIn(4)) request.deadline = harness_.now() + absl::Milliseconds(2 + Below(40));
    if (OneIn(10)) request.max_queue_time = absl::Milliseconds(Below(20));
    return request;
  }

  // The ticket, or 0 when the queue did not take it.
  RequestTicket Submit(GenerationRequest request) {
    ReferenceRequest reference;
    reference.request = request;
    reference.accepted_tick = totals_.ticks;
    const int reader = Below(10);
    reference.reads_one_in = reader == 0 ? 0 : reader < 4 ? 2 + Below(8) : 1;
    const size_t capacity = reference.reads_one_in == 1 ? 1000 : static_cast<size_t>(1 + Below(8));
    const absl::StatusOr<RequestTicket> ticket = harness_.TrySubmit(std::move(request), capacity);
    if (!ticket.ok()) {
      EXPECT_TRUE(absl::IsResourceExhausted(ticket.status()) || absl::IsDeadlineExceeded(ticket.status()))
          << ticket.status();
      return 0;
    }
    ++totals_.requests;
    requests_.emplace(*ticket, std::move(reference));
    return *ticket;
  }

  void SubmitStateless() {
    GenerationRequest request = AnyRequest();
    if (request.prompt.empty()) request.prompt = {1};
    if (OneIn(3)) {
      const auto most = std::min(harness_.options.state_slots, harness_.model->limits().decode_rows);
      request.candidate_count = static_cast<uint32_t>(1 + Below(static_cast<int>(most)));
    }
    Submit(std::move(request));
  }

  void SubmitOnSession() {
    const std::string id = SomeId();
    GenerationRequest request = AnyRequest();
    request.session_id = id;
    if (const int method = Below(6); method == 0) {
      request.method = Method::kScore;
      request.score_text = AnyPrompt(10);
      if (request.score_text.empty()) request.score_text = {3};
    } else if (method == 1) {
      request.method = Method::kAppendInput;
      if (request.prompt.empty()) request.prompt = {2};
    }
    if (OneIn(3)) request.expect_position = static_cast<uint64_t>(Below(60));
    auto ticket = std::make_shared<RequestTicket>(0);
    harness_.PostGet(id, [this, id, ticket](absl::StatusOr<SessionInfo> info) {
      ReferenceSession* session = Observe(id, info);
      if (*ticket != 0) OpenRequest(*ticket, id, session);
    });
    *ticket = Submit(std::move(request));
  }

  // The engine takes the request right after this; the reference says what must come of it.
  void OpenRequest(RequestTicket ticket, const std::string& id, ReferenceSession* session) {
    ReferenceRequest& reference = requests_.at(ticket);
    const GenerationRequest& request = reference.request;
    const bool generates = request.method == Method::kGenerate;
    if (session == nullptr) {
      reference.refusal = absl::StatusCode::kNotFound;
    } else if (session->open == 0 && session->state.poisoned != 0) {
      reference.refusal = absl::StatusCode::kInternal;
    } else if (session->open != 0) {
      reference.refusal = absl::StatusCode::kAborted;
    } else if (request.expect_position && *request.expect_position != session->state.position) {
      reference.refusal = absl::StatusCode::kAborted;
    } else if (generates && request.prompt.empty() && session->state.position == 0) {
      reference.refusal = absl::StatusCode::kInvalidArgument;
    } else {
      session->open = ticket;
      session->expires_after = harness_.now() + session->ttl;
      reference.session = id;
      reference.start = session->state;
    }
  }

  void Cancel() {
    if (requests_.empty()) return;
    auto entry = requests_.begin();
    std::advance(entry, Below(static_cast<int>(requests_.size())));
    entry->second.cancelled = true;
    harness_.Cancel(entry->first);
  }

  void Step() {
    harness_.Tick();
    ++totals_.ticks;
    std::vector<RequestTicket> ended;
    for (auto& [ticket, reference] : requests_) {
      Transcript& got = harness_.Of(ticket);
      const bool reads = reference.reads_one_in > 0 && OneIn(reference.reads_one_in);
      if (reads) got.Read(reference.reads_one_in == 1 ? SIZE_MAX : 1);
      // Who never reads learns of the end all the same: the stream is closed long after the stall timeout.
      if (reference.reads_one_in == 0 && totals_.ticks - reference.accepted_tick > kTicksToClose) got.Read();
      if (got.end) ended.push_back(ticket);
    }
    for (const RequestTicket ticket : ended) {
      if (requests_.contains(ticket)) CloseRequest(ticket);
    }
  }

  void CloseRequest(RequestTicket ticket) {
    const ReferenceRequest reference = std::move(requests_.at(ticket));
    requests_.erase(ticket);
    Transcript& got = harness_.Of(ticket);
    Check(reference, got);
    const auto entry = sessions_.find(reference.session);
    if (entry != sessions_.end() && entry->second.open == ticket) {
      entry->second.open = 0;
      entry->second.state = StateAfter(reference, got);
    }
    if (got.started && reference.request.priority == kPriorityMax) {
      totals_.queue_time_max = std::max(totals_.queue_time_max, got.started->queue_time);
    }
    totals_.tokens += got.end->usage.output_tokens;
    ++totals_.ends[got.end->status.code()];
    harness_.transcripts.erase(ticket);
  }

  // Each token once and in order, one status, and that one only for a reason.
  void Check(const ReferenceRequest& reference, const Transcript& got) {
    const GenerationRequest& request = reference.request;
    const absl::StatusCode code = got.end->status.code();
    if (reference.refusal != absl::StatusCode::kOk) {
      EXPECT_EQ(code, reference.refusal);
      EXPECT_FALSE(got.started.has_value());
      return;
    }
    bool poison_drawn = false;
    for (uint32_t i = 0; i < request.candidate_count && request.method == Method::kGenerate; ++i) {
      const OracleRun run(reference.start, request, *request.sampling.seed, i);
      const Tokens tokens = got.tokens.contains(i) ? got.tokens.at(i) : Tokens();
      ASSERT_LE(tokens.size(), run.tokens.size());
      EXPECT_TRUE(std::equal(tokens.begin(), tokens.end(), run.tokens.begin()));
      poison_drawn = poison_drawn || (!tokens.empty() && tokens.back() == OracleModel::kPoisonToken);
      if (code != absl::StatusCode::kOk) continue;
      EXPECT_EQ(tokens.size(), run.tokens.size());
      ASSERT_TRUE(got.finished.contains(i));
      EXPECT_EQ(got.finished.at(i).reason, run.reason);
      if (!reference.session.empty()) {
        EXPECT_EQ(got.finished.at(i).usage.session_position, run.FinalState().position);
      }
    }
    const bool poison_read =
        std::count(request.prompt.begin(), request.prompt.end(), OracleModel::kPoisonToken) > 0;
    const bool poison_scored =
        std::count(request.score_text.begin(), request.score_text.end(), OracleModel::kPoisonToken) > 0;
    switch (code) {
      case absl::StatusCode::kOk:
        EXPECT_FALSE(poison_read);
        break;
      case absl::StatusCode::kCancelled:
        EXPECT_TRUE(reference.cancelled);
        break;
      case absl::StatusCode::kDeadlineExceeded:
        EXPECT_TRUE(
            request.deadline <= harness_.now() || request.max_queue_time.has_value() ||
            (!request.session_id.empty() && DetailOf(got.end->status).reason == reason::kDeadlineTooShort));
        break;
      case absl::StatusCode::kResourceExhausted:
        EXPECT_TRUE(reference.reads_one_in != 1 || request.candidate_count > 1);
        break;
      case absl::StatusCode::kInternal:
        EXPECT_TRUE(poison_read || poison_drawn || poison_scored);
        break;
      default:
        ADD_FAILURE() << got.end->status;
    }
  }

  // What the canonical state rule makes of the session.
  static OracleState StateAfter(const ReferenceRequest& reference, const Transcript& got) {
    const GenerationRequest& request = reference.request;
    const bool ok = got.end->status.ok();
    if (request.method == Method::kScore) return reference.start;
    if (request.method == Method::kAppendInput) {
      return ok ? OracleModel::ConsumePrompt(reference.start, request.prompt) : reference.start;
    }
    const OracleRun run(reference.start, request, *request.sampling.seed);
    if (ok) return run.FinalState();
    const size_t emitted = got.tokens.contains(0) ? got.tokens.at(0).size() : 0;
    return emitted == 0 ? reference.start : run.StateAfter(emitted);
  }

  // Nothing new arrives: everything ends, and only the sessions hold slots.
  void ComeToRest() {
    uint64_t ticks = 0;
    while (!requests_.empty() && ++ticks < kTicksToRest) Step();
    ASSERT_TRUE(requests_.empty()) << "somebody starves";
    harness_.Settle();
    for (auto entry = sessions_.begin(); entry != sessions_.end();) {
      const std::string id = (entry++)->first;
      Observe(id, harness_.Get(id));
    }
    // Looking at one takes time, in which another may expire.
    const auto alive = std::ranges::count_if(
        sessions_, [this](const auto& entry) { return entry.second.expires_after > harness_.now(); });
    EXPECT_EQ(harness_.loop.pool().used(), static_cast<size_t>(alive));
  }

  std::mt19937_64 random_;
  Totals& totals_;
  LoopHarness harness_;
  std::map<std::string, ReferenceSession> sessions_;
  std::map<RequestTicket, ReferenceRequest> requests_;
};

uint64_t FromEnvironment(const char* name, uint64_t otherwise) {
  const char* value = std::getenv(name);
  return value == nullptr ? otherwise : std::strtoull(value, nullptr, 10);
}

TEST(EngineSimulationTest, SessionsAreWhatTheReferenceSays) {
  const uint64_t first_seed = FromEnvironment("MAMBAD_SIMULATION_SEED", 1);
  const uint64_t seeds = FromEnvironment("MAMBAD_SIMULATION_SEEDS", 30);
  constexpr int kSteps = 2500;
  constexpr uint64_t kOperationsMin = 10000;
  Totals totals;
  for (uint64_t seed = first_seed; seed < first_seed + seeds; ++seed) {
    SCOPED_TRACE(testing::Message() << "MAMBAD_SIMULATION_SEED=" << seed);
    Simulation(seed, &totals).Run(kSteps);
    if (HasFailure()) break;
  }
  std::printf(
      "seeds %llu..%llu: %llu session operations, %llu requests, %llu tokens, %llu ticks; longest in the "
      "queue %s\n",
      static_cast<unsigned long long>(first_seed), static_cast<unsigned long long>(first_seed + seeds - 1),
      static_cast<unsigned long long>(totals.session_operations),
      static_cast<unsigned long long>(totals.requests), static_cast<unsigned long long>(totals.tokens),
      static_cast<unsigned long long>(totals.ticks), absl::FormatDuration(totals.queue_time_max).c_str());
  for (const auto& [code, count] : totals.ends) {
    std::printf("  %s: %llu\n", absl::StatusCodeToString(code).c_str(),
                static_cast<unsigned long long>(count));
  }
  EXPECT_GE(totals.session_operations, kOperationsMin);
  for (const absl::StatusCode code :
       {absl::StatusCode::kOk, absl::StatusCode::kCancelled, absl::StatusCode::kDeadlineExceeded,
        absl::StatusCode::kResourceExhausted, absl::StatusCode::kInternal, absl::StatusCode::kAborted,
        absl::StatusCode::kNotFound}) {
    EXPECT_GT(totals.ends[code], 0u) << "a run without this end proves too little: " << code;
  }
}

}  // namespace
}  // namespace mambad
