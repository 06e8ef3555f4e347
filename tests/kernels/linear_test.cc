#include "kernels/linear/linear.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <tuple>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/reference/linear_ref.h"
#include "tests/support/cpu_device.h"

namespace mambad::kernels {
namespace {

constexpr float kPoison = -12345.0f;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// One rounding per product and per sum, each at most 2^-24 of a partial sum that sum |x w| bounds (twice
// that, since without FMA a term is rounded as product and as sum); bias and residual add one each.
double Tolerance(std::int64_t K, double magnitude) { return (2.0 * K + 4.0) * 0x1p-24 * magnitude; }

std::vector<float> RandomFloats(std::size_t count, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<float> normal;
  std::vector<float> values(count);
  for (float& value : values) value = normal(random);
  return values;
}

std::vector<float> Rounded(std::vector<float> values, WeightPrecision precision) {
  if (precision == WeightPrecision::kBf16) {
    for (float& value : values) value = RoundToBf16(value);
  }
  return values;
}

struct Problem {
  std::int64_t M, K;
  std::vector<float> weight, bias;

  Problem(std::int64_t M, std::int64_t K, unsigned seed = 1)
      : M(M), K(K), weight(RandomFloats(M * K, seed)), bias(RandomFloats(M, seed + 1)) {}
  LinearWeight AsWeight(bool with_bias) const {
    return {.data = weight.data(),
            .dtype = DType::kF32,
            .rows = M,
            .cols = K,
            .bias = with_bias ? bias.data() : nullptr};
  }
};

class LinearTest : public ::testing::TestWithParam<std::tuple<CpuPath, WeightPrecision>> {
 protected:
  CpuPath path() const { return std::get<0>(GetParam()); }
  WeightPrecision precision() const { return std::get<1>(GetParam()); }

  // The result of one call; `y` beforehand decides what accumulate adds to.
  static std::vector<float> Apply(Stream& stream, const PackedLinear& weight, const float* x,
                                  std::int64_t ldx, std::int64_t rows, bool accumulate = false,
                                  std::vector<float> y = {}) {
    if (y.empty()) y.assign(rows * weight.rows(), kPoison);
    const LinearArgs args = {
        .x = x, .ldx = ldx, .y = y.data(), .ldy = weight.rows(), .rows = rows, .accumulate = accumulate};
    EXPECT_TRUE(Linear(stream, weight, args).ok());
    return y;
  }
};

TEST_P(LinearTest, MatchesTheReferenceAndWritesNothingElse) {
  const auto device = DeviceOn(path(), 2);
  const auto stream = Stream::Create(*device).value();
  for (const auto& [M, K] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {1, 1}, {15, 2}, {16, 3}, {17, 48}, {33, 31}, {80, 129}, {130, 64}, {200, 67}}) {
    const Problem problem(M, K);
    const std::vector<float> weight = Rounded(problem.weight, precision());
    for (const bool with_bias : {false, true}) {
      const PackedLinear packed = PackLinear(*device, problem.AsWeight(with_bias), precision()).value();
      for (const bool accumulate : {false, true}) {
        for (const std::int64_t rows : {1, 2, 3, 5, 7, 13, 27, 110}) {
          const std::int64_t ldx = K + 5;
          const std::int64_t ldy = M + 3;
          const std::vector<float> x = RandomFloats(rows * ldx, 3);
          const std::vector<float> rounded_x = Rounded(x, precision());
          std::vector<float> y(rows * ldy + 1, kPoison);
          std::vector<double> want(rows * M), magnitude(rows * M);
          reference::Linear(rounded_x.data(), ldx, weight.data(), with_bias ? problem.bias.data() : nullptr,
                            rows, M, K, want.data(), M, magnitude.data());
          const std::vector<float> old = RandomFloats(rows * M, 4);
          for (std::int64_t i = 0; accumulate && i < rows * M; ++i) {
            y[i / M * ldy + i % M] = old[i];
            want[i] += old[i];
            magnitude[i] += std::fabs(old[i]);
          }
          const LinearArgs args = {
              .x = x.data(), .ldx = ldx, .y = y.data(), .ldy = ldy, .rows = rows, .accumulate = accumulate};
          ASSERT_TRUE(Linear(*stream, packed, args).ok());
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t m = 0; m < ldy; ++m) {
              const float got = y[r * ldy + m];
              if (m >= M) {
                ASSERT_EQ(got, kPoison);
                continue;
              }
              ASSERT_NEAR(got, want[r * M + m], Tolerance(K, magnitude[r * M + m]))
                  << "M " << M << " K " << K << " rows " << rows << " r " << r << " m " << m;
            }
          }
          ASSERT_EQ(y.back(), kPoison);
        }
      }
    }
  }
}

// Promise P2: alone, or anywhere in any batch, with neighbours that are NaN, on any number of threads.
TEST_P(LinearTest, ARowDependsOnItselfAndTheWeightAlone) {
  constexpr std::int64_t kMaxBatch = 33;
  for (const auto& [M, K] : std::vector<std::pair<std::int64_t, std::int64_t>>{{80, 33}, {130, 20}}) {
    const Problem problem(M, K);
    const std::vector<float> row = RandomFloats(K, 5);
    std::vector<float> alone;
    for (int threads = 1; threads <= 4; ++threads) {
      const auto device = DeviceOn(path(), threads);
      const auto stream = Stream::Create(*device).value();
      const PackedLinear packed = PackLinear(*device, problem.AsWeight(true), precision()).value();
      if (alone.empty()) alone = Apply(*stream, packed, row.data(), K, 1);
      for (std::int64_t batch = 1; batch <= kMaxBatch; ++batch) {
        for (std::int64_t at = 0; at < batch; ++at) {
          // Every place in batches of one tile; first, middle and last in larger ones.
          if (batch > 12 && at != 0 && at != batch / 2 && at != batch - 1) continue;
          std::vector<float> x(batch * K, kNan);
          std::memcpy(&x[at * K], row.data(), K * sizeof(float));
          const std::vector<float> y = Apply(*stream, packed, x.data(), K, batch);
          ASSERT_EQ(std::memcmp(&y[at * M], alone.data(), M * sizeof(float)), 0)
              << "threads " << threads << " batch " << batch << " at " << at;
          for (std::int64_t r = 0; r < batch; ++r) {
            if (r == at) continue;
            ASSERT_TRUE(std::isnan(y[r * M]) && std::isnan(y[r * M + M - 1]));
          }
        }
      }
    }
  }
}

// The same for row counts that are cut into cache blocks, split by rows, or exceed the workspace.
TEST_P(LinearTest, LargeBatchesGiveTheBitsOfSingleRows) {
  struct Shape {
    std::int64_t M, K, rows;
  };
  for (const auto& [M, K, rows] : {Shape{400, 1030, 61}, Shape{50, 40, 301}, Shape{20, 16500, 70}}) {
    const Problem problem(M, K);
    const std::vector<float> x = RandomFloats(rows * K, 6);
    for (const int threads : {1, 3}) {
      const auto device = DeviceOn(path(), threads);
      const auto stream = Stream::Create(*device).value();
      const PackedLinear packed = PackLinear(*device, problem.AsWeight(false), precision()).value();
      const std::vector<float> together = Apply(*stream, packed, x.data(), K, rows);
      for (std::int64_t r = 0; r < rows; r += 7) {
        const std::vector<float> alone = Apply(*stream, packed, &x[r * K], K, 1);
        ASSERT_EQ(std::memcmp(&together[r * M], alone.data(), M * sizeof(float)), 0) << "row " << r;
      }
    }
  }
}

TEST_P(LinearTest, AnOutputChannelDependsOnItsWeightRowAlone) {
  constexpr std::int64_t M = 70, K = 65, rows = 5;
  const Problem problem(M, K);
  const std::vector<float> x = RandomFloats(rows * K, 8);
  const auto device = DeviceOn(path(), 2);
  const auto stream = Stream::Create(*device).value();
  const PackedLinear whole = PackLinear(*device, problem.AsWeight(true), precision()).value();
  const std::vector<float> y = Apply(*stream, whole, x.data(), K, rows);
  for (const auto& [first, count] :
       std::vector<std::pair<std::int64_t, std::int64_t>>{{0, 1}, {3, 40}, {69, 1}}) {
    LinearWeight range = problem.AsWeight(true);
    range.data = problem.weight.data() + first * K;
    range.bias += first;
    range.rows = count;
    const PackedLinear part = PackLinear(*device, range, precision()).value();
    const std::vector<float> got = Apply(*stream, part, x.data(), K, rows);
    for (std::int64_t r = 0; r < rows; ++r) {
      ASSERT_EQ(std::memcmp(&got[r * count], &y[r * M + first], count * sizeof(float)), 0);
    }
  }
}

TEST_P(LinearTest, AccumulateAddsTheFinishedSumToTheOldValue) {
  constexpr std::int64_t M = 37, K = 50, rows = 9;
  const Problem problem(M, K);
  const std::vector<float> x = RandomFloats(rows * K, 9);
  const std::vector<float> old = RandomFloats(rows * M, 10);
  const auto device = DeviceOn(path(), 2);
  const auto stream = Stream::Create(*device).value();
  const PackedLinear packed = PackLinear(*device, problem.AsWeight(true), precision()).value();
  const std::vector<float> sum = Apply(*stream, packed, x.data(), K, rows);
  const std::vector<float> added = Apply(*stream, packed, x.data(), K, rows, true, old);
  for (std::size_t i = 0; i < sum.size(); ++i) ASSERT_EQ(added[i], old[i] + sum[i]);
}

TEST_P(LinearTest, TakesWeightsOfEveryDtypeAndUnpacksThem) {
  constexpr std::int64_t M = 35, K = 21;
  std::vector<std::uint16_t> f16(M * K), bf16(M * K);
  std::mt19937 random(11);
  for (std::size_t i = 0; i < f16.size(); ++i) {
    f16[i] = static_cast<std::uint16_t>(random() & 0xbfff);  // finite, |value| < 2
    bf16[i] = FloatToBf16(std::ldexp(static_cast<float>(random() % 1000), -9));
  }
  const auto device = DeviceOn(path(), 2);
  for (const DType dtype : {DType::kF16, DType::kBf16}) {
    const void* data = dtype == DType::kF16 ? f16.data() : bf16.data();
    const PackedLinear packed =
        PackLinear(*device, {.data = data, .dtype = dtype, .rows = M, .cols = K}, precision()).value();
    std::vector<float> row(K + 1, kPoison);
    for (std::int64_t m = 0; m < M; ++m) {
      UnpackLinearRow(packed, m, row.data());
      for (std::int64_t k = 0; k < K; ++k) {
        const float value = LoadAsFloat(data, dtype, m * K + k);
        ASSERT_EQ(row[k], precision() == WeightPrecision::kF32 ? value : RoundToBf16(value));
      }
      ASSERT_EQ(row[K], kPoison);
    }
  }
}

TEST_P(LinearTest, RefusesBadShapesAndArguments) {
  const auto device = DeviceOn(path(), 1);
  const auto stream = Stream::Create(*device).value();
  const Problem problem(4, 3);
  const auto code = [](const absl::Status& status) { return status.code(); };
  for (const auto& [rows, cols] : std::vector<std::pair<std::int64_t, std::int64_t>>{
           {0, 3}, {-1, 3}, {4, 0}, {4, kMaxLinearCols + 1}, {std::int64_t{1} << 40, 3}}) {
    const LinearWeight weight = {.data = problem.weight.data(), .rows = rows, .cols = cols};
    EXPECT_EQ(code(PackLinear(*device, weight, precision()).status()), absl::StatusCode::kInvalidArgument);
  }
  EXPECT_EQ(code(PackLinear(*device, {.rows = 4, .cols = 3}, precision()).status()),
            absl::StatusCode::kInvalidArgument);

  const PackedLinear packed = PackLinear(*device, problem.AsWeight(false), precision()).value();
  EXPECT_EQ(packed.rows(), 4);
  EXPECT_EQ(packed.cols(), 3);
  EXPECT_EQ(packed.precision(), precision());
  std::vector<float> x(6), y(8, kPoison);
  const LinearArgs good = {.x = x.data(), .ldx = 3, .y = y.data(), .ldy = 4, .rows = 2};
  LinearArgs bad = good;
  bad.ldx = 2;
  EXPECT_EQ(code(Linear(*stream, packed, bad)), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.ldy = 3;
  EXPECT_EQ(code(Linear(*stream, packed, bad)), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.rows = -1;
  EXPECT_EQ(code(Linear(*stream, packed, bad)), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.x = nullptr;
  EXPECT_EQ(code(Linear(*stream, packed, bad)), absl::StatusCode::kInvalidArgument);
  bad = good;
  bad.rows = 0;
  EXPECT_TRUE(Linear(*stream, packed, bad).ok());
  EXPECT_EQ(y, std::vector<float>(8, kPoison));
}

INSTANTIATE_TEST_SUITE_P(Paths, LinearTest,
                         ::testing::Combine(::testing::ValuesIn(PathsToTest()),
                                            ::testing::Values(WeightPrecision::kF32, WeightPrecision::kBf16)),
                         [](const auto& info) {
                           const bool f32 = std::get<1>(info.param) == WeightPrecision::kF32;
                           return std::string(Name(std::get<0>(info.param))) + (f32 ? "_f32" : "_bf16");
                         });

}  // namespace
}  // namespace mambad::kernels
