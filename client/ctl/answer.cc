#include "client/ctl/answer.h"

#include <algorithm>

#include "absl/strings/str_cat.h"
#include "absl/strings/str_format.h"
#include "absl/strings/str_join.h"

namespace mambad::ctl {
namespace {

constexpr uint32_t kMaxCandidates = 128;  // generation.proto; a larger index is the last one's

}  // namespace

v1::Candidate& Answer::CandidateAt(uint32_t index) {
  index = std::min(index, kMaxCandidates - 1);
  while (candidates_.size() <= index) {
    candidates_.emplace_back().set_index(static_cast<uint32_t>(candidates_.size() - 1));
    usages_.emplace_back();
  }
  return candidates_[index];
}

void Answer::Add(const v1::StreamGenerateResponse& event, absl::Time now) {
  last_event_ = now;
  switch (event.event_case()) {
    case v1::StreamGenerateResponse::kStarted:
      request_id_ = event.started().request_id();
      seed_ = event.started().seed();
      break;
    case v1::StreamGenerateResponse::kPromptLogprobs:
      prompt_logprobs_.MergeFrom(event.prompt_logprobs().logprobs());
      break;
    case v1::StreamGenerateResponse::kDelta: {
      if (!first_delta_.has_value()) first_delta_ = now;
      v1::Candidate& candidate = CandidateAt(event.delta().candidate_index());
      candidate.mutable_text()->append(event.delta().text());
      candidate.mutable_token_ids()->MergeFrom(event.delta().token_ids());
      candidate.mutable_logprobs()->MergeFrom(event.delta().logprobs());
      break;
    }
    case v1::StreamGenerateResponse::kFinished: {
      const v1::Finished& finished = event.finished();
      v1::Candidate& candidate = CandidateAt(finished.candidate_index());
      candidate.set_finish_reason(finished.finish_reason());
      candidate.set_matched_stop(finished.matched_stop());
      usages_[candidate.index()] = finished.usage();
      const uint64_t before = usage_.has_value() ? usage_->output_tokens() : 0;
      usage_ = finished.usage();
      usage_->set_output_tokens(before + finished.usage().output_tokens());
      break;
    }
    case v1::StreamGenerateResponse::EVENT_NOT_SET:
      break;
  }
}

void Answer::Add(const v1::GenerateResponse& response, absl::Time now) {
  last_event_ = now;
  request_id_ = response.request_id();
  seed_ = response.seed();
  prompt_logprobs_ = response.prompt_logprobs();
  candidates_.assign(response.candidates().begin(), response.candidates().end());
  usages_.assign(candidates_.size(), response.usage());
  usage_ = response.usage();
}

std::optional<absl::Duration> Answer::time_to_first_token() const {
  if (!first_delta_.has_value()) return std::nullopt;
  return *first_delta_ - start_;
}

std::optional<double> Answer::tokens_per_second() const {
  if (!first_delta_.has_value() || !usage_.has_value()) return std::nullopt;
  // Each candidate's first token begins the measured time.
  const auto firsts = static_cast<uint64_t>(candidates_.size());
  const double seconds = absl::ToDoubleSeconds(last_event_ - *first_delta_);
  if (usage_->output_tokens() <= firsts || seconds <= 0) return std::nullopt;
  return static_cast<double>(usage_->output_tokens() - firsts) / seconds;
}

Json Answer::CandidateJson(size_t index) const {
  const v1::Candidate& candidate = candidates_[index];
  Json json = {{"text", candidate.text()},
               {"token_ids", candidate.token_ids()},
               {"finish_reason", v1::FinishReason_Name(candidate.finish_reason())}};
  if (!candidate.matched_stop().empty()) json["matched_stop"] = candidate.matched_stop();
  json["usage"] = ToJson(usages_[index]);
  if (!candidate.logprobs().empty()) json["logprobs"] = ToJson(candidate.logprobs());
  if (!prompt_logprobs_.empty()) json["prompt_logprobs"] = ToJson(prompt_logprobs_);
  json["request_id"] = request_id_;
  json["seed"] = seed_;
  json["candidate_index"] = candidate.index();
  const auto ttft = time_to_first_token();
  const auto rate = tokens_per_second();
  json["timing"] = {{"ttft_s", ttft.has_value() ? Json(absl::ToDoubleSeconds(*ttft)) : Json()},
                    {"total_s", absl::ToDoubleSeconds(last_event_ - start_)},
                    {"tokens_per_s", rate.has_value() ? Json(*rate) : Json()}};
  return json;
}

std::string Answer::StatsLine() const {
  std::vector<std::string> parts;
  if (const auto ttft = time_to_first_token())
    parts.push_back(absl::StrFormat("ttft %.1f ms", absl::ToDoubleMilliseconds(*ttft)));
  if (const auto rate = tokens_per_second()) parts.push_back(absl::StrFormat("%.1f tokens/s", *rate));
  if (usage_.has_value()) {
    parts.push_back(absl::StrCat(usage_->output_tokens(), " tokens"));
    parts.push_back(absl::StrCat("prompt ", usage_->input_tokens()));
    if (usage_->session_position() > 0) {
      parts.push_back(absl::StrCat("position ", usage_->session_position()));
    }
  }
  for (const v1::Candidate& candidate : candidates_)
    parts.push_back(v1::FinishReason_Name(candidate.finish_reason()));
  return absl::StrJoin(parts, ", ");
}

}  // namespace mambad::ctl
