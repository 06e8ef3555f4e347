#include <cstdint>
#include <cstring>
#include <string>
#include <utility>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/device/stream.h"
#include "tests/support/cpu_device.h"

namespace mambad::kernels {
namespace {

using ::testing::HasSubstr;

TEST(DeviceTest, ABuildWithoutCudaRefusesACudaDevice) {
  const auto device = Device::Create({.kind = DeviceKind::kCuda});
  EXPECT_EQ(device.status().code(), absl::StatusCode::kNotFound);
  EXPECT_THAT(std::string(device.status().message()), HasSubstr("cuda"));
}

TEST(DeviceTest, TakesThreadsAndPathAndNamesItsArchitecture) {
  for (CpuPath path : PathsToTest()) {
    const auto device = DeviceOn(path, 3);
    EXPECT_EQ(device->kind(), DeviceKind::kCpu);
    EXPECT_EQ(device->pool().threads(), 3);
    EXPECT_EQ(device->cpu_path(), path);
    EXPECT_EQ(device->Architecture(), "cpu-" + std::string(Name(path)));
  }
}

TEST(DeviceTest, AlignsAndZeroesBuffers) {
  const auto device = Device::Create().value();
  for (std::size_t bytes : {std::size_t{1}, std::size_t{63}, std::size_t{4096}, std::size_t{5} << 20}) {
    const DeviceBuffer buffer = device->Allocate(bytes, "test", Fill::kZero).value();
    const auto address = reinterpret_cast<std::uintptr_t>(buffer.data());
    EXPECT_EQ(address % (bytes >= (2u << 20) ? 2u << 20 : 64), 0u);
    EXPECT_EQ(buffer.bytes(), bytes);
    for (std::size_t i = 0; i < bytes; ++i) ASSERT_EQ(buffer.as<std::uint8_t>()[i], 0);
    std::memset(buffer.data(), 0xff, bytes);  // the next allocation must not be zero by luck
  }
  const DeviceBuffer empty = device->Allocate(0, "test").value();
  EXPECT_EQ(empty.bytes(), 0u);
}

TEST(DeviceTest, KeepsALedgerOfNamedUsers) {
  const auto device = Device::Create().value();
  DeviceBuffer weights = device->Allocate(100, "weights").value();
  const DeviceBuffer more = device->Allocate(50, "weights").value();
  const DeviceBuffer pool = device->Allocate(7, "state pool").value();
  ASSERT_EQ(device->Ledger().size(), 2u);
  EXPECT_EQ(device->Ledger()[0].user, "weights");
  EXPECT_EQ(device->Ledger()[0].bytes, 150u);
  EXPECT_EQ(device->Ledger()[1].user, "state pool");
  EXPECT_EQ(device->bytes_in_use(), 157u);

  DeviceBuffer moved = std::move(weights);
  EXPECT_EQ(device->bytes_in_use(), 157u);
  EXPECT_EQ(weights.data(), nullptr);  // NOLINT(bugprone-use-after-move): the moved-from state is promised
  moved = DeviceBuffer();
  EXPECT_EQ(device->bytes_in_use(), 57u);
  EXPECT_EQ(device->Ledger()[0].bytes, 50u);
}

TEST(DeviceTest, RefusesWhatDoesNotFitAndNamesTheUser) {
  const auto device = Device::Create({.memory_limit_bytes = 1000}).value();
  const DeviceBuffer first = device->Allocate(600, "weights").value();
  for (std::size_t bytes : {std::size_t{401}, SIZE_MAX}) {
    const auto second = device->Allocate(bytes, "state pool");
    EXPECT_EQ(second.status().code(), absl::StatusCode::kResourceExhausted);
    EXPECT_THAT(std::string(second.status().message()), HasSubstr("state pool"));
  }
  EXPECT_EQ(device->bytes_in_use(), 600u);
  EXPECT_TRUE(device->Allocate(400, "state pool").ok());
}

TEST(DeviceTest, CopiesAndFills) {
  const auto device = Device::Create().value();
  const auto stream = Stream::Create(*device).value();
  const std::vector<std::uint8_t> source = {1, 2, 3, 4, 5};
  const DeviceBuffer a = device->Allocate(5, "test", Fill::kZero).value();
  const DeviceBuffer b = device->Allocate(5, "test", Fill::kZero).value();
  ASSERT_TRUE(CopyToDevice(*stream, a.data(), source.data(), 5).ok());
  ASSERT_TRUE(FillBytes(*stream, a.as<std::uint8_t>() + 1, 0xee, 2).ok());
  ASSERT_TRUE(CopyOnDevice(*stream, b.data(), a.data(), 4).ok());
  std::vector<std::uint8_t> result(5, 0x77);
  ASSERT_TRUE(CopyToHost(*stream, result.data(), b.data(), 5).ok());
  ASSERT_TRUE(stream->Synchronize().ok());
  EXPECT_THAT(result, ::testing::ElementsAre(1, 0xee, 0xee, 4, 0));
  EXPECT_EQ(stream->workspace().size(), Stream::kWorkspaceBytes);
}

}  // namespace
}  // namespace mambad::kernels
