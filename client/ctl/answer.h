// What one generation said, gathered from its events, and when.
#ifndef MAMBAD_CLIENT_CTL_ANSWER_H_
#define MAMBAD_CLIENT_CTL_ANSWER_H_

#include <optional>
#include <string>
#include <vector>

#include "absl/time/time.h"
#include "client/ctl/json.h"
#include "mambad/v1/generation.pb.h"

namespace mambad::ctl {

class Answer {
 public:
  explicit Answer(absl::Time start) : start_(start) {}

  // Takes the stream's next event, which arrived at `now`.
  void Add(const v1::StreamGenerateResponse& event, absl::Time now);
  // Takes a whole answer, which arrived at `now`.
  void Add(const v1::GenerateResponse& response, absl::Time now);

  const std::vector<v1::Candidate>& candidates() const { return candidates_; }
  // Output and prompt tokens of all candidates; nothing before one has finished.
  const std::optional<v1::Usage>& usage() const { return usage_; }

  std::optional<absl::Duration> time_to_first_token() const;
  // From the first token to the end. Nothing for an answer of one token, or one that came as a whole.
  std::optional<double> tokens_per_second() const;

  // {"text", "token_ids", "finish_reason", "usage", "timing", ...} of candidate `index`.
  Json CandidateJson(size_t index) const;
  // "ttft 4.2 ms, 812.4 tokens/s, 64 tokens, prompt 5, position 69, LENGTH".
  std::string StatsLine() const;

 private:
  v1::Candidate& CandidateAt(uint32_t index);

  absl::Time start_;
  std::optional<absl::Time> first_delta_;
  absl::Time last_event_;
  std::string request_id_;
  uint64_t seed_ = 0;
  std::vector<v1::Candidate> candidates_;
  std::vector<v1::Usage> usages_;  // of each candidate, as its Finished said
  std::optional<v1::Usage> usage_;
  google::protobuf::RepeatedPtrField<v1::TokenLogprob> prompt_logprobs_;
};

}  // namespace mambad::ctl

#endif  // MAMBAD_CLIENT_CTL_ANSWER_H_
