// A session's 200th turn costs what its first did, and nothing is resent or computed again.
#include <algorithm>
#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "client/client.h"
#include "gtest/gtest.h"
#include "tests/support/server_process.h"

namespace mambad::testing {
namespace {

constexpr int kTurns = 200;
constexpr int kPairs = 31;  // late turns, each timed beside the first turn of a new session
constexpr uint32_t kPromptTokens = 16;
constexpr uint32_t kOutputTokens = 32;
constexpr double kMaxRatio = 1.1;  // the acceptance's own bound

double SecondsNow() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double Median(std::vector<double> sample) {
  std::nth_element(sample.begin(), sample.begin() + static_cast<std::ptrdiff_t>(sample.size() / 2),
                   sample.end());
  return sample[sample.size() / 2];
}

// The value of a counter without labels other than the model's, summed over its lines.
double Metric(const ServerProcess& server, const std::string& name) {
  const std::optional<std::string> answer = server.Get("/metrics");
  EXPECT_TRUE(answer.has_value()) << "/metrics does not answer";
  const std::string text = answer.value_or("");
  double sum = 0;
  for (size_t at = text.find("\n" + name + "{"); at != std::string::npos;
       at = text.find("\n" + name + "{", at + 1))
    sum += std::stod(text.substr(text.find("} ", at) + 2));
  return sum;
}

// One turn of the same size on `session`; its time in seconds.
double TimeTurn(Client& client, const std::string& session, uint64_t expected_position) {
  const std::vector<uint32_t> ids(kPromptTokens, 100);
  v1::GenerateRequest request;
  request.set_session(session);
  request.set_expect_position(expected_position);
  *request.mutable_prompt() = TokenPrompt(ids);
  request.mutable_sampling()->set_temperature(0);
  request.mutable_stop()->set_max_output_tokens(kOutputTokens);
  request.mutable_stop()->set_ignore_eos(true);
  const double start = SecondsNow();
  const absl::StatusOr<v1::GenerateResponse> response = client.Generate(request);
  const double seconds = SecondsNow() - start;
  EXPECT_TRUE(response.ok()) << response.status();
  if (!response.ok()) return seconds;
  EXPECT_EQ(response->usage().input_tokens(), kPromptTokens) << "only the new words are read";
  EXPECT_EQ(response->usage().output_tokens(), kOutputTokens);
  EXPECT_EQ(response->usage().session_position(), expected_position + kPromptTokens + kOutputTokens);
  return seconds;
}

TEST(SessionCostTest, ALateTurnCostsWhatAFirstOneDoes) {
  ServerProcess server;
  ASSERT_TRUE(server.ready()) << server.process().Errors();
  absl::StatusOr<Client> client = Client::Connect(server.grpc_address());
  ASSERT_TRUE(client.ok()) << client.status();
  const absl::StatusOr<v1::Session> old_session = client->CreateSession();
  ASSERT_TRUE(old_session.ok()) << old_session.status();

  constexpr uint64_t kTurnTokens = kPromptTokens + kOutputTokens;
  const double prompt_tokens_before = Metric(server, "mambad_prompt_tokens_total");
  std::vector<double> times;
  for (int turn = 0; turn < kTurns; ++turn)
    times.push_back(TimeTurn(*client, old_session->name(), kTurnTokens * static_cast<uint64_t>(turn)));
  EXPECT_EQ(Metric(server, "mambad_prompt_tokens_total") - prompt_tokens_before, kTurns * kPromptTokens)
      << "the server computed each turn's new words and nothing else";

  // A machine's speed drifts: first and late turns are timed side by side.
  std::vector<double> first;
  std::vector<double> late;
  for (int pair = 0; pair < kPairs; ++pair) {
    const absl::StatusOr<v1::Session> fresh = client->CreateSession();
    ASSERT_TRUE(fresh.ok()) << fresh.status();
    first.push_back(TimeTurn(*client, fresh->name(), 0));
    late.push_back(
        TimeTurn(*client, old_session->name(), kTurnTokens * static_cast<uint64_t>(kTurns + pair)));
    v1::DeleteSessionRequest erase;
    erase.set_name(fresh->name());
    ASSERT_TRUE(client->DeleteSession(erase).ok());
  }
  const double ratio = Median(late) / Median(first);
  EXPECT_LE(ratio, kMaxRatio);
  EXPECT_EQ(client->GetSession(old_session->name())->bytes(), old_session->bytes())
      << "its size has not changed";

  const double twenty_first = Median({times.begin(), times.begin() + 20});
  const double twenty_last = Median({times.end() - 20, times.end()});
  std::printf(
      "turns of %u + %u tokens: first %.2f ms, after %d turns %.2f ms, ratio %.3f (in sequence: turns 1-20 "
      "%.2f ms, "
      "181-200 %.2f ms)\n",
      kPromptTokens, kOutputTokens, Median(first) * 1e3, kTurns, Median(late) * 1e3, ratio,
      twenty_first * 1e3, twenty_last * 1e3);
}

}  // namespace
}  // namespace mambad::testing
