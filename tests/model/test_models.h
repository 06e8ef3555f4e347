// Models of tests/data, loaded once per process.
#ifndef MAMBAD_TESTS_MODEL_TEST_MODELS_H_
#define MAMBAD_TESTS_MODEL_TEST_MODELS_H_

#include <memory>
#include <string>

#include "engine/model/load.h"
#include "engine/model/mixer_model.h"
#include "gtest/gtest.h"
#include "tests/support/test_device.h"

namespace mambad {

inline std::string TestDataPath(const std::string& name) {
  return std::string(MAMBAD_TEST_DATA) + "/" + name;
}
inline std::string TalesFolder() { return std::string(MAMBAD_SOURCE_DIR) + "/deploy/models/mamba-tales"; }

// Ends the test with the error's text when the model does not load.
inline std::shared_ptr<MixerModel> LoadTestModel(const std::string& folder, Precision precision,
                                                 ForwardLimits limits = {}, int threads = 2,
                                                 StateDtype state_dtype = StateDtype::kF32) {
  LoadOptions options;
  options.model = folder;
  options.device = TestsRunOnGpu() ? DeviceChoice::kCuda : DeviceChoice::kCpu;
  options.threads = threads;
  options.precision = precision;
  options.state_dtype = state_dtype;
  options.limits = limits;
  absl::StatusOr<LoadedModel> loaded = LoadModel(options);
  if (!loaded.ok()) {
    ADD_FAILURE() << loaded.status();
    std::abort();
  }
  return std::static_pointer_cast<MixerModel>(loaded->model);
}

}  // namespace mambad

#endif  // MAMBAD_TESTS_MODEL_TEST_MODELS_H_
