#include "server/model_service.h"

#include <algorithm>
#include <functional>
#include <utility>
#include <vector>

#include "engine/error.h"
#include "kernels/base/status_macros.h"
#include "server/convert.h"
#include "server/verb_reactor.h"

namespace mambad {
namespace {

// Ids that are decoded at once, on the thread that received them.
constexpr int kInlineIds = 1024;

absl::Status CheckTokenizer(const Serving& serving) {
  if (serving.tokenizer() != nullptr) return absl::OkStatus();
  return MakeError(absl::StatusCode::kFailedPrecondition, "this model has no tokenizer",
                   {.reason = reason::kNoTokenizer});
}

absl::Status CheckVocabulary(const v1::DetokenizeRequest& request, const Serving& serving) {
  const uint32_t vocab_size = serving.engine->limits().vocab_size;
  const bool inside = std::ranges::all_of(request.token_ids(), [&](uint32_t id) { return id < vocab_size; });
  return inside ? absl::OkStatus() : InvalidField("token_ids", "holds a token id outside the vocabulary");
}

absl::Status Tokenize(const Serving& serving, const v1::TokenizeRequest& request,
                      v1::TokenizeResponse* response) {
  MAMBAD_ASSIGN_OR_RETURN(
      const std::vector<uint32_t> ids,
      serving.tokenizer()->Encode(request.text(), {.add_special_tokens = request.add_special_tokens()}));
  response->mutable_token_ids()->Add(ids.begin(), ids.end());
  return absl::OkStatus();
}

absl::Status Detokenize(const Serving& serving, const v1::DetokenizeRequest& request,
                        v1::DetokenizeResponse* response) {
  const std::vector<uint32_t> ids(request.token_ids().begin(), request.token_ids().end());
  response->set_text(serving.tokenizer()->Decode(ids, request.skip_special_tokens()));
  return absl::OkStatus();
}

// Runs `work` here when it is `small`, otherwise on the tokenizing pool. The messages that it refers to live
// until the reactor is finished.
grpc::ServerUnaryReactor* RunTextWork(Backend* backend, grpc::CallbackServerContext* context, bool small,
                                      std::function<absl::Status()> work) {
  if (small) return FinishNow(context, work());
  grpc::ServerUnaryReactor* reactor = context->DefaultReactor();
  const bool posted =
      backend->PostTokenizing([reactor, work = std::move(work)] { reactor->Finish(ToGrpcStatus(work())); });
  if (!posted) reactor->Finish(ToGrpcStatus(TokenizingQueueFull()));
  return reactor;
}

}  // namespace

grpc::ServerUnaryReactor* ModelService::GetModel(grpc::CallbackServerContext* context,
                                                 const v1::GetModelRequest* request, v1::Model* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  if (request->name().empty()) return FinishNow(context, InvalidField("name", "must be models/{id}"));
  const absl::Status named = CheckModelName(request->name(), "name", **serving);
  if (named.ok()) ToProto(**serving, response);
  return FinishNow(context, named);
}

grpc::ServerUnaryReactor* ModelService::ListModels(grpc::CallbackServerContext* context,
                                                   const v1::ListModelsRequest* request,
                                                   v1::ListModelsResponse* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  if (request->page_size() < 0) {
    return FinishNow(context, InvalidField("page_size", "must not be negative"));
  }
  if (!request->page_token().empty()) {
    return FinishNow(context, InvalidField("page_token", "must come from the last response"));
  }
  ToProto(**serving, response->add_models());
  return FinishNow(context, absl::OkStatus());
}

grpc::ServerUnaryReactor* ModelService::Tokenize(grpc::CallbackServerContext* context,
                                                 const v1::TokenizeRequest* request,
                                                 v1::TokenizeResponse* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  absl::Status status = CheckModelName(request->model(), "model", **serving);
  if (status.ok()) status = CheckTokenizer(**serving);
  if (!status.ok()) return FinishNow(context, status);
  return RunTextWork(
      backend_, context, request->text().size() <= kInlineTextBytes,
      [serving = *serving, request, response] { return ::mambad::Tokenize(*serving, *request, response); });
}

grpc::ServerUnaryReactor* ModelService::Detokenize(grpc::CallbackServerContext* context,
                                                   const v1::DetokenizeRequest* request,
                                                   v1::DetokenizeResponse* response) {
  const auto serving = backend_->serving();
  if (!serving.ok()) return FinishNow(context, serving.status());
  absl::Status status = CheckModelName(request->model(), "model", **serving);
  if (status.ok()) status = CheckTokenizer(**serving);
  if (status.ok()) status = CheckVocabulary(*request, **serving);
  if (!status.ok()) return FinishNow(context, status);
  return RunTextWork(
      backend_, context, request->token_ids_size() <= kInlineIds,
      [serving = *serving, request, response] { return ::mambad::Detokenize(*serving, *request, response); });
}

}  // namespace mambad
