// --device auto, cpu and cuda on machines with, without and with a broken GPU (a fake one: no kernel runs).
#include <string>
#include <vector>

#include "engine/model/load.h"
#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/device/device.h"
#include "tests/model/test_models.h"
#include "tests/support/fake_gpu.h"

namespace mambad {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

class DeviceChoiceTest : public testing::Test {
 protected:
  void SetUp() override { Gpu() = FakeGpu(); }

  absl::StatusOr<LoadedModel> Load(DeviceChoice device) {
    LoadOptions options;
    options.model = TalesFolder();
    options.device = device;
    options.threads = 1;
    options.log = [this](const std::string& line) { log_.push_back(line); };
    return LoadModel(options);
  }
  static kernels::DeviceKind KindOf(const absl::StatusOr<LoadedModel>& loaded) {
    return loaded->model->device().kind();
  }

  std::vector<std::string> log_;
};

TEST_F(DeviceChoiceTest, AutoWithoutADriverServesOnTheCpuAndSaysWhy) {
  Gpu().driver_version = 0;
  const absl::StatusOr<LoadedModel> loaded = Load(DeviceChoice::kAuto);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(KindOf(loaded), kernels::DeviceKind::kCpu);
  EXPECT_THAT(log_, ElementsAre(HasSubstr("serving on the CPU: device cuda: no NVIDIA driver")));
}

TEST_F(DeviceChoiceTest, AutoWithABrokenOrTooOldGpuIsAnError) {
  Gpu().count_code = FakeGpu::kSystemNotReady;
  EXPECT_TRUE(absl::IsFailedPrecondition(Load(DeviceChoice::kAuto).status()));
  Gpu() = FakeGpu();
  Gpu().major = 7;
  EXPECT_TRUE(absl::IsFailedPrecondition(Load(DeviceChoice::kAuto).status()));
  Gpu() = FakeGpu();
  Gpu().free_bytes = 1;
  EXPECT_TRUE(absl::IsResourceExhausted(Load(DeviceChoice::kAuto).status()));
}

TEST_F(DeviceChoiceTest, CudaWithoutADriverIsAnError) {
  Gpu().driver_version = 0;
  EXPECT_THAT(std::string(Load(DeviceChoice::kCuda).status().message()), HasSubstr("no NVIDIA driver"));
}

TEST_F(DeviceChoiceTest, CpuDoesNotLookForAGpu) {
  Gpu().count_code = FakeGpu::kSystemNotReady;
  const absl::StatusOr<LoadedModel> loaded = Load(DeviceChoice::kCpu);
  ASSERT_TRUE(loaded.ok()) << loaded.status();
  EXPECT_EQ(KindOf(loaded), kernels::DeviceKind::kCpu);
  EXPECT_EQ(Gpu().calls, 0u);
  EXPECT_THAT(log_, IsEmpty());
}

}  // namespace
}  // namespace mambad
