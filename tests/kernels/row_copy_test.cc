#include "kernels/row_copy/row_copy.h"

#include <memory>
#include <numeric>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/slots.h"
#include "tests/support/cpu_device.h"

namespace mambad::kernels {
namespace {

constexpr std::int64_t kWidth = 5;
constexpr std::int64_t kStride = 7;  // floats from row to row
constexpr float kPoison = -77.0f;

class RowCopyTest : public ::testing::Test {
 protected:
  static RowTable Table(std::vector<float>& values) {
    return {reinterpret_cast<std::byte*>(values.data()), kStride * std::int64_t{sizeof(float)}};
  }

  std::unique_ptr<Device> device_ = Device::Create({.threads = 1}).value();
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
  std::vector<float> from_ = std::vector<float>(6 * kStride);
  std::vector<float> to_ = std::vector<float>(6 * kStride, kPoison);
};

TEST_F(RowCopyTest, CopiesRowsByIndexAndNothingElse) {
  std::iota(from_.begin(), from_.end(), 1.0f);
  const std::vector<std::int32_t> from = {4, kNoSlot, 0, 4, 2}, to = {1, 0, 5, 3, kNoSlot};
  ASSERT_TRUE(CopyRows(*stream_, {.from = Table(from_),
                                  .from_index = from.data(),
                                  .to = Table(to_),
                                  .to_index = to.data(),
                                  .rows = 5,
                                  .width = kWidth})
                  .ok());
  std::vector<float> expected(to_.size(), kPoison);
  for (const auto& [target, source] : {std::pair{1, 4}, {5, 0}, {3, 4}})
    std::copy_n(from_.begin() + source * kStride, kWidth, expected.begin() + target * kStride);
  EXPECT_EQ(to_, expected);
}

TEST_F(RowCopyTest, WithoutIndicesRowsKeepTheirPlace) {
  std::iota(from_.begin(), from_.end(), 1.0f);
  ASSERT_TRUE(
      CopyRows(*stream_, {.from = Table(from_), .to = Table(to_), .rows = 2, .width = kStride}).ok());
  EXPECT_TRUE(std::equal(from_.begin(), from_.begin() + 2 * kStride, to_.begin()));
  EXPECT_EQ(to_[2 * kStride], kPoison);
}

TEST_F(RowCopyTest, RefusesWhatMakesNoSense) {
  EXPECT_EQ(CopyRows(*stream_, {.from = Table(from_), .to = Table(to_), .rows = -1, .width = 1}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_EQ(CopyRows(*stream_, {.to = Table(to_), .rows = 1, .width = 1}).code(),
            absl::StatusCode::kInvalidArgument);
  EXPECT_TRUE(CopyRows(*stream_, {.rows = 0, .width = 1}).ok());
}

}  // namespace
}  // namespace mambad::kernels
