#include "kernels/rms_norm/rms_norm.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/rms_norm_ref.h"
#include "tests/support/cpu_device.h"
#include "tests/support/random_floats.h"

namespace mambad::kernels {
namespace {

constexpr float kPoison = -12345.0f;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// The sum of n positive terms has n/32 + 5 roundings plus one per square, halved by the root; then division,
// root, reciprocal and two products. Each is at most 2^-24.
double Tolerance(std::int64_t width) { return (0.5 * (width / 32.0 + 7.0) + 5.0) * 0x1p-24; }

class RmsNormTest : public ::testing::TestWithParam<CpuPath> {
 protected:
  std::unique_ptr<Device> device_ = DeviceOn(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
};

TEST_P(RmsNormTest, MatchesTheReferenceAndWritesNothingElse) {
  for (const std::int64_t width : {1, 2, 7, 8, 31, 32, 33, 48, 63, 100, 768, 2561}) {
    for (const std::int64_t rows : {1, 2, 5}) {
      for (const bool with_weight : {false, true}) {
        const std::int64_t x_stride = width + 3;
        const std::int64_t y_stride = width + 2;
        const std::vector<float> x = RandomFloats(rows * x_stride, 1);
        const std::vector<float> weight = RandomFloats(width, 2);
        std::vector<float> y(rows * y_stride, kPoison);
        ASSERT_TRUE(RmsNorm(*stream_, {.x = x.data(),
                                       .x_stride = x_stride,
                                       .weight = with_weight ? weight.data() : nullptr,
                                       .y = y.data(),
                                       .y_stride = y_stride,
                                       .rows = rows,
                                       .width = width,
                                       .eps = 1e-5f})
                        .ok());
        std::vector<double> want(width);
        for (std::int64_t row = 0; row < rows; ++row) {
          reference::RmsNorm(&x[row * x_stride], with_weight ? weight.data() : nullptr, width, 1e-5f,
                             want.data());
          for (std::int64_t i = 0; i < y_stride; ++i) {
            const float got = y[row * y_stride + i];
            if (i >= width) {
              ASSERT_EQ(got, kPoison);
            } else {
              ASSERT_NEAR(got, want[i], Tolerance(width) * std::fabs(want[i])) << width;
            }
          }
        }
      }
    }
  }
}

TEST_P(RmsNormTest, MayWorkInPlaceInsideALargerRow) {
  constexpr std::int64_t kRows = 9, kStride = 80, kWidth = 16;
  std::vector<float> all = RandomFloats(kRows * kStride, 3);
  const std::vector<float> before = all;
  std::vector<float> y(kRows * kWidth);
  RmsNormArgs args = {.x = all.data() + 48,
                      .x_stride = kStride,
                      .y = y.data(),
                      .y_stride = kWidth,
                      .rows = kRows,
                      .width = kWidth};
  ASSERT_TRUE(RmsNorm(*stream_, args).ok());
  args.y = all.data() + 48;
  args.y_stride = kStride;
  ASSERT_TRUE(RmsNorm(*stream_, args).ok());
  for (std::int64_t i = 0; i < kRows * kStride; ++i) {
    const std::int64_t column = i % kStride - 48;
    const bool inside = column >= 0 && column < kWidth;
    ASSERT_EQ(all[i], inside ? y[i / kStride * kWidth + column] : before[i]);
  }
}

TEST_P(RmsNormTest, ARowDependsOnItselfAlone) {
  constexpr std::int64_t kWidth = 101;
  const std::vector<float> row = RandomFloats(kWidth, 4);
  std::vector<float> alone(kWidth);
  RmsNormArgs args = {.x_stride = kWidth, .y_stride = kWidth, .width = kWidth};
  args.x = row.data();
  args.y = alone.data();
  args.rows = 1;
  ASSERT_TRUE(RmsNorm(*stream_, args).ok());
  for (int threads = 1; threads <= 3; ++threads) {
    const auto device = DeviceOn(GetParam(), threads);
    const auto stream = Stream::Create(*device).value();
    for (std::int64_t at = 0; at < 7; ++at) {
      std::vector<float> x(7 * kWidth, kNan), y(7 * kWidth);
      std::memcpy(&x[at * kWidth], row.data(), kWidth * sizeof(float));
      args.x = x.data();
      args.y = y.data();
      args.rows = 7;
      ASSERT_TRUE(RmsNorm(*stream, args).ok());
      ASSERT_EQ(std::memcmp(&y[at * kWidth], alone.data(), kWidth * sizeof(float)), 0);
    }
  }
}

TEST_P(RmsNormTest, EveryPathGivesThePortableBits) {
  const auto portable = DeviceOn(CpuPath::kPortable, 1);
  const auto stream = Stream::Create(*portable).value();
  for (const std::int64_t width : {1, 33, 768, 1001}) {
    const std::vector<float> x = RandomFloats(width, 5);
    std::vector<float> y(width), want(width);
    RmsNormArgs args = {
        .x = x.data(), .x_stride = width, .y = y.data(), .y_stride = width, .rows = 1, .width = width};
    ASSERT_TRUE(RmsNorm(*stream_, args).ok());
    args.y = want.data();
    ASSERT_TRUE(RmsNorm(*stream, args).ok());
    EXPECT_EQ(std::memcmp(y.data(), want.data(), width * sizeof(float)), 0) << width;
  }
}

TEST_P(RmsNormTest, RefusesWhatItCannotCompute) {
  std::vector<float> x(8), y(8);
  const RmsNormArgs good = {
      .x = x.data(), .x_stride = 4, .y = y.data(), .y_stride = 4, .rows = 2, .width = 4};
  const auto refused = [&](auto change) {
    RmsNormArgs args = good;
    change(args);
    return RmsNorm(*stream_, args).code() == absl::StatusCode::kInvalidArgument;
  };
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.rows = -1; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.width = 0; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x = nullptr; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.y = nullptr; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.x_stride = 3; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.y_stride = 3; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.eps = kNan; }));
  EXPECT_TRUE(refused([](RmsNormArgs& a) { a.eps = -1.0f; }));
  RmsNormArgs empty = good;
  empty.rows = 0;
  empty.x = nullptr;
  EXPECT_TRUE(RmsNorm(*stream_, empty).ok());
}

INSTANTIATE_TEST_SUITE_P(Paths, RmsNormTest, ::testing::ValuesIn(PathsToTest()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace mambad::kernels
