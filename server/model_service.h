// mambad.v1.ModelService: what is served, and its tokenizer.
//
// Threads: gRPC's callbacks; long texts go to the tokenizing pool.
#ifndef MAMBAD_SERVER_MODEL_SERVICE_H_
#define MAMBAD_SERVER_MODEL_SERVICE_H_

#include "mambad/v1/model.grpc.pb.h"
#include "server/backend.h"

namespace mambad {

class ModelService final : public v1::ModelService::CallbackService {
 public:
  // `backend` outlives the service and its calls.
  explicit ModelService(Backend* backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* GetModel(grpc::CallbackServerContext* context, const v1::GetModelRequest* request,
                                     v1::Model* response) override;
  grpc::ServerUnaryReactor* ListModels(grpc::CallbackServerContext* context,
                                       const v1::ListModelsRequest* request,
                                       v1::ListModelsResponse* response) override;
  grpc::ServerUnaryReactor* Tokenize(grpc::CallbackServerContext* context, const v1::TokenizeRequest* request,
                                     v1::TokenizeResponse* response) override;
  grpc::ServerUnaryReactor* Detokenize(grpc::CallbackServerContext* context,
                                       const v1::DetokenizeRequest* request,
                                       v1::DetokenizeResponse* response) override;

 private:
  Backend* const backend_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_MODEL_SERVICE_H_
