// mambad.v1.GenerationService: Generate, StreamGenerate, Score.
//
// Threads: gRPC's callbacks; none blocks.
#ifndef MAMBAD_SERVER_GENERATION_SERVICE_H_
#define MAMBAD_SERVER_GENERATION_SERVICE_H_

#include "mambad/v1/generation.grpc.pb.h"
#include "server/backend.h"

namespace mambad {

// The answer of a unary call may not grow beyond what a client with gRPC's defaults can receive; a longer one
// ends with RESOURCE_EXHAUSTED and belongs into StreamGenerate.
inline constexpr size_t kUnaryResponseBytesMax = size_t{4} << 20;

class GenerationService final : public v1::GenerationService::CallbackService {
 public:
  // `backend` outlives the service and its calls.
  explicit GenerationService(Backend* backend) : backend_(backend) {}

  grpc::ServerUnaryReactor* Generate(grpc::CallbackServerContext* context, const v1::GenerateRequest* request,
                                     v1::GenerateResponse* response) override;
  grpc::ServerWriteReactor<v1::StreamGenerateResponse>* StreamGenerate(
      grpc::CallbackServerContext* context, const v1::GenerateRequest* request) override;
  grpc::ServerUnaryReactor* Score(grpc::CallbackServerContext* context, const v1::ScoreRequest* request,
                                  v1::ScoreResponse* response) override;

 private:
  Backend* const backend_;
};

}  // namespace mambad

#endif  // MAMBAD_SERVER_GENERATION_SERVICE_H_
