#include "kernels/random_fill/random_fill.h"

#include <algorithm>
#include <memory>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/random_fill_ref.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

constexpr std::uint64_t kKey = 0xfedcba9876543210;
constexpr std::uint16_t kSentinel = 0x7fc1;

class RandomFillTest : public testing::Test {
 protected:
  TestVector<std::uint16_t> Fill(std::uint64_t key, float bound, std::int64_t elements) {
    TestVector<std::uint16_t> out(static_cast<size_t>(elements) + 5, kSentinel);
    EXPECT_TRUE(RandomFill(*stream_, {key, bound, elements, out.data()}).ok());
    EXPECT_TRUE(stream_->Synchronize().ok());
    return out;
  }

  std::unique_ptr<Device> device_ =
      Device::Create({.kind = TestsRunOnGpu() ? DeviceKind::kCuda : DeviceKind::kCpu, .threads = 3}).value();
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
};

TEST_F(RandomFillTest, GivesTheBitsOfTheReferenceAndWritesNothingElse) {
  for (const std::int64_t elements : {0, 1, 3, 4, 5, 1023, 1024, 1025, 70001}) {
    for (const float bound : {0.125f, 0.0197642f}) {
      const TestVector<std::uint16_t> out = Fill(kKey, bound, elements);
      std::vector<std::uint16_t> expected =
          reference::RandomFill(kKey, bound, static_cast<std::uint64_t>(elements));
      expected.resize(out.size(), kSentinel);
      EXPECT_TRUE(std::ranges::equal(out, expected)) << elements << " elements, bound " << bound;
    }
  }
}

TEST_F(RandomFillTest, KeysDiffer) { EXPECT_NE(Fill(kKey, 1, 64), Fill(kKey + 1, 1, 64)); }

TEST_F(RandomFillTest, RefusesBadArguments) {
  std::uint16_t out = 0;
  EXPECT_EQ(RandomFill(*stream_, {kKey, 1, -1, &out}).code(), absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(RandomFill(*stream_, {kKey, 1, 1, nullptr}).code(), absl::StatusCode::kInvalidArgument);
}

}  // namespace
}  // namespace mambad::kernels
