// Device, Stream, Graph and HostBuffer on a GPU that is not there, and may break at any call.
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "gmock/gmock.h"
#include "gtest/gtest.h"
#include "kernels/base/status_macros.h"
#include "kernels/device/gpu_probe.h"
#include "kernels/device/stream.h"
#include "tests/support/fake_gpu.h"

namespace mambad::kernels {
namespace {

using ::testing::HasSubstr;

class GpuDeviceTest : public ::testing::Test {
 protected:
  void SetUp() override { Gpu() = FakeGpu(); }

  static std::unique_ptr<Device> NewDevice(std::uint64_t limit = 0) {
    return Device::Create({.kind = DeviceKind::kCuda, .threads = 1, .memory_limit_bytes = limit}).value();
  }
  static std::string Message(const absl::Status& status) { return std::string(status.message()); }
};

TEST_F(GpuDeviceTest, NoDriverAndNoDeviceAreNotFound) {
  Gpu().driver_version = 0;
  EXPECT_TRUE(absl::IsNotFound(ProbeGpu(0).status()));
  Gpu() = FakeGpu();
  Gpu().count_code = gpu::kNoDevice;
  EXPECT_TRUE(absl::IsNotFound(ProbeGpu(0).status()));
  Gpu() = FakeGpu();
  Gpu().devices = 0;
  EXPECT_TRUE(absl::IsNotFound(ProbeGpu(0).status()));
}

TEST_F(GpuDeviceTest, ADeviceThatDoesNotAnswerIsNoMissingOne) {
  Gpu().count_code = FakeGpu::kSystemNotReady;
  EXPECT_TRUE(absl::IsFailedPrecondition(ProbeGpu(0).status()));
  EXPECT_THAT(Message(ProbeGpu(0).status()), HasSubstr("not yet initialized"));
  Gpu() = FakeGpu();
  Gpu().versions_code = FakeGpu::kSystemNotReady;
  EXPECT_TRUE(absl::IsFailedPrecondition(ProbeGpu(0).status()));
  Gpu() = FakeGpu();
  Gpu().fail_from = 1;
  EXPECT_TRUE(absl::IsFailedPrecondition(ProbeGpu(0).status()));
}

TEST_F(GpuDeviceTest, TooOldATooFarOrdinalAndATooOldDriverAreNamed) {
  Gpu().major = 7;
  EXPECT_THAT(Message(ProbeGpu(0).status()), HasSubstr("compute capability 7.0"));
  Gpu() = FakeGpu();
  EXPECT_THAT(Message(ProbeGpu(1).status()), HasSubstr("cuda:1: there are 1"));
  Gpu().driver_version = 12040;
  EXPECT_THAT(Message(ProbeGpu(0).status()), HasSubstr("the driver serves CUDA 12.4, this build needs 13.0"));
}

TEST_F(GpuDeviceTest, TheCeilingIsWhatIsFreeOrWhatWasAskedFor) {
  EXPECT_EQ(NewDevice()->memory_limit_bytes(), (uint64_t{79} << 30) - kGpuReserveBytes);
  EXPECT_EQ(NewDevice(5 << 20)->memory_limit_bytes(), 5u << 20);
  EXPECT_EQ(NewDevice()->Architecture(), "cuda-90");
  const auto full = Device::Create({.kind = DeviceKind::kCuda, .memory_limit_bytes = uint64_t{79} << 31});
  EXPECT_TRUE(absl::IsResourceExhausted(full.status()));
}

TEST_F(GpuDeviceTest, AllocatesZeroesAndAccounts) {
  const auto device = NewDevice(1 << 20);
  {
    const DeviceBuffer zero = device->Allocate(1000, "weights", Fill::kZero).value();
    EXPECT_TRUE(std::all_of(zero.as<char>(), zero.as<char>() + 1000, [](char c) { return c == 0; }));
    const auto refused = device->Allocate(2 << 20, "state pool");
    EXPECT_TRUE(absl::IsResourceExhausted(refused.status()));
    EXPECT_THAT(Message(refused.status()), HasSubstr("the largest user is weights with 1000"));
    EXPECT_EQ(device->bytes_in_use(), 1000u);
    Gpu().free_bytes = 10;
    EXPECT_THAT(Message(device->Allocate(100, "state pool").status()), HasSubstr("out of memory"));
    EXPECT_EQ(device->bytes_in_use(), 1000u);
  }
  EXPECT_EQ(device->bytes_in_use(), 0u);
  EXPECT_EQ(Gpu().outstanding, 0);
}

TEST_F(GpuDeviceTest, OverheadIsContextAndWhatTheLedgerDoesNotKnow) {
  const auto device = NewDevice();
  const DeviceBuffer weights = device->Allocate(1000, "weights").value();
  Gpu().free_bytes -= 1000 + 77;
  const std::vector<MemoryUse> overhead = device->Overhead().value();
  ASSERT_EQ(overhead.size(), 2u);
  EXPECT_EQ(overhead[0].bytes, uint64_t{1} << 30);  // total - free when it was made
  EXPECT_EQ(overhead[1].bytes, 77u);
}

TEST_F(GpuDeviceTest, CopiesGoThereAndBack) {
  const auto device = NewDevice();
  const auto stream = Stream::Create(*device).value();
  const DeviceBuffer buffer = device->Allocate(8, "test").value();
  const char text[8] = "mambada";
  char back[8] = {};
  ASSERT_TRUE(CopyToDevice(*stream, buffer.data(), text, 8).ok());
  ASSERT_TRUE(CopyToHost(*stream, back, buffer.data(), 8).ok());
  EXPECT_STREQ(back, text);
  ASSERT_TRUE(FillBytes(*stream, buffer.data(), 'x', 8).ok());
  EXPECT_EQ(buffer.as<char>()[7], 'x');
}

TEST_F(GpuDeviceTest, CountsTheHostsBuffersApart) {
  const auto device = NewDevice();
  {
    HostBuffer first = HostBuffer::Create(*device, 64).value();
    const HostBuffer second = HostBuffer::Create(*device, 36).value();
    EXPECT_EQ(device->host_bytes(), 100u);
    const HostBuffer moved = std::move(first);
    EXPECT_EQ(device->host_bytes(), 100u);
    EXPECT_EQ(device->bytes_in_use(), 0u);
  }
  EXPECT_EQ(device->host_bytes(), 0u);
}

TEST_F(GpuDeviceTest, AnEventWaitsForWhatWasRecorded) {
  const auto device = NewDevice();
  const auto stream = Stream::Create(*device).value();
  const Event event = Event::Create(*device).value();
  EXPECT_TRUE(event.Wait().ok()) << "nothing was recorded";
  ASSERT_TRUE(stream->Record(event).ok());
  EXPECT_TRUE(event.Wait().ok());
  Gpu().fail_from = Gpu().calls + 1;
  EXPECT_FALSE(event.Wait().ok());
  EXPECT_FALSE(stream->Record(event).ok());
}

// Everything that a server does with a device, in the order in which it does it.
absl::Status UseDevice() {
  MAMBAD_ASSIGN_OR_RETURN(const auto device, Device::Create({.kind = DeviceKind::kCuda, .threads = 1}));
  MAMBAD_ASSIGN_OR_RETURN(const auto stream, Stream::Create(*device));
  MAMBAD_ASSIGN_OR_RETURN(const DeviceBuffer pool, device->Allocate(4096, "state pool", Fill::kZero));
  MAMBAD_ASSIGN_OR_RETURN(const HostBuffer staging, HostBuffer::Create(*device, 64));
  MAMBAD_ASSIGN_OR_RETURN(const Event event, Event::Create(*device));
  std::memset(staging.as<char>(), 7, 64);
  MAMBAD_RETURN_IF_ERROR(stream->BeginRecording());
  absl::StatusOr<Graph> graph = stream->EndRecording();
  MAMBAD_RETURN_IF_ERROR(graph.status());
  MAMBAD_RETURN_IF_ERROR(CopyToDevice(*stream, pool.data(), staging.as<char>(), 64));
  MAMBAD_RETURN_IF_ERROR(stream->Replay(*graph));
  MAMBAD_RETURN_IF_ERROR(CopyToHost(*stream, staging.as<char>(), pool.data(), 64));
  MAMBAD_RETURN_IF_ERROR(stream->Record(event));
  MAMBAD_RETURN_IF_ERROR(event.Wait());
  MAMBAD_RETURN_IF_ERROR(device->Overhead().status());
  return stream->Synchronize();
}

TEST_F(GpuDeviceTest, AFailureAtAnyCallIsReportedAndGivesEverythingBack) {
  ASSERT_TRUE(UseDevice().ok());
  const uint64_t calls = Gpu().calls;
  uint64_t reported = 0;
  for (uint64_t n = 1; n <= calls; ++n) {
    Gpu() = FakeGpu();
    Gpu().fail_from = n;
    if (!UseDevice().ok()) ++reported;
    EXPECT_EQ(Gpu().outstanding, 0) << "call " << n;
  }
  // Only those of destructors, which have nobody to tell, go unreported.
  EXPECT_GE(reported, calls - 4);
  EXPECT_GT(calls, 12u);
}

}  // namespace
}  // namespace mambad::kernels
