// What a server serves on the fake GPU: an engine on the oracle model, not started.
#ifndef MAMBAD_TESTS_SUPPORT_FAKE_GPU_SERVING_H_
#define MAMBAD_TESTS_SUPPORT_FAKE_GPU_SERVING_H_

#include <memory>

#include "absl/status/statusor.h"
#include "engine/engine.h"
#include "kernels/base/status_macros.h"
#include "server/serving.h"
#include "tests/support/oracle_model.h"

namespace mambad::testing {

inline absl::StatusOr<std::shared_ptr<const Serving>> MakeFakeGpuServing(const EngineOptions& options,
                                                                         OracleModel::Ahead ahead) {
  MAMBAD_ASSIGN_OR_RETURN(std::shared_ptr<OracleModel> model, OracleModel::OnGpu({}, ahead));
  auto serving = std::make_shared<Serving>();
  serving->model_id = "oracle";
  MAMBAD_ASSIGN_OR_RETURN(serving->engine, Engine::Create(std::move(model), nullptr, options));
  return serving;
}

}  // namespace mambad::testing

#endif  // MAMBAD_TESTS_SUPPORT_FAKE_GPU_SERVING_H_
