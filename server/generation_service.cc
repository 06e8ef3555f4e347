#include "server/generation_service.h"

#include <memory>
#include <variant>

#include "absl/strings/str_cat.h"
#include "engine/error.h"
#include "server/convert.h"
#include "server/stream_call.h"
#include "server/unary_call.h"

namespace mambad {
namespace {

absl::Status AnswerTooLong() {
  return MakeError(absl::StatusCode::kResourceExhausted,
                   absl::StrCat("the answer would exceed ", kUnaryResponseBytesMax, " bytes"),
                   {.reason = reason::kAnswerTooLong});
}

class GenerateCall final : public UnaryCall {
 public:
  GenerateCall(Backend* backend, const grpc::CallbackServerContext& context, v1::GenerateResponse* response)
      : UnaryCall(backend, Method::kGenerate, context), response_(response) {}

 private:
  v1::Candidate* CandidateAt(uint32_t index) {
    while (static_cast<uint32_t>(response_->candidates_size()) <= index) {
      const int next = response_->candidates_size();
      response_->add_candidates()->set_index(static_cast<uint32_t>(next));
    }
    return response_->mutable_candidates(static_cast<int>(index));
  }

  void Collect(const TokenEvent& event) override {
    if (const auto* started = std::get_if<StartedEvent>(&event)) {
      response_->set_request_id(request_id());
      response_->set_seed(started->seed);
    } else if (const auto* prompt = std::get_if<PromptLogprobsEvent>(&event)) {
      v1::PromptLogprobs piece;
      ToProto(*prompt, view(), &piece);
      Grow(piece.ByteSizeLong());
      response_->mutable_prompt_logprobs()->MergeFrom(piece.logprobs());
    } else if (const auto* delta = std::get_if<DeltaEvent>(&event)) {
      v1::Delta piece;
      AppendToProto(*delta, view(), &piece);
      Grow(piece.ByteSizeLong());
      v1::Candidate* candidate = CandidateAt(delta->candidate_index);
      candidate->mutable_text()->append(piece.text());
      candidate->mutable_token_ids()->MergeFrom(piece.token_ids());
      candidate->mutable_logprobs()->MergeFrom(piece.logprobs());
    } else if (const auto* finished = std::get_if<FinishedEvent>(&event)) {
      v1::Candidate* candidate = CandidateAt(finished->candidate_index);
      candidate->set_finish_reason(ToProto(finished->reason));
      candidate->set_matched_stop(finished->matched_stop);
    }
  }

  void OnSuccess(const EndEvent& end) override {
    ToProto(end.usage, response_->mutable_usage());
    Complete(absl::OkStatus());
  }

  void Grow(size_t bytes) {
    bytes_ += bytes;
    if (bytes_ > kUnaryResponseBytesMax) Fail(AnswerTooLong());
  }

  v1::GenerateResponse* const response_;
  size_t bytes_ = 0;
};

class ScoreCall final : public UnaryCall {
 public:
  ScoreCall(Backend* backend, const grpc::CallbackServerContext& context, v1::ScoreResponse* response)
      : UnaryCall(backend, Method::kScore, context), response_(response) {}

 private:
  void Collect(const TokenEvent& event) override {
    const auto* scored = std::get_if<ScoredEvent>(&event);
    if (scored == nullptr) return;
    ToProto(*scored, view(), response_);
    if (response_->ByteSizeLong() > kUnaryResponseBytesMax) Fail(AnswerTooLong());
  }

  v1::ScoreResponse* const response_;
};

}  // namespace

grpc::ServerUnaryReactor* GenerationService::Generate(grpc::CallbackServerContext* context,
                                                      const v1::GenerateRequest* request,
                                                      v1::GenerateResponse* response) {
  return UnaryCall::Start(
      std::make_shared<GenerateCall>(backend_, *context, response),
      [&](const Serving& serving) { return FromProto(*request, Method::kGenerate, serving); });
}

grpc::ServerWriteReactor<v1::StreamGenerateResponse>* GenerationService::StreamGenerate(
    grpc::CallbackServerContext* context, const v1::GenerateRequest* request) {
  return StreamCall::Start(backend_, context, *request);
}

grpc::ServerUnaryReactor* GenerationService::Score(grpc::CallbackServerContext* context,
                                                   const v1::ScoreRequest* request,
                                                   v1::ScoreResponse* response) {
  return UnaryCall::Start(std::make_shared<ScoreCall>(backend_, *context, response),
                          [&](const Serving& serving) { return FromProto(*request, serving); });
}

}  // namespace mambad
