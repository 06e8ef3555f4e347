#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <random>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/dtype.h"
#include "kernels/device/cpu_path.h"
#include "kernels/math/philox.h"
#include "kernels/math/tree_sum.h"
#include "tests/kernels/math_lanes.h"

namespace mambad::kernels {
namespace {

constexpr float kNan = std::numeric_limits<float>::quiet_NaN();
constexpr float kInfinity = std::numeric_limits<float>::infinity();

// The bounds that kernels/math/exp.h states.
constexpr double kExpUlp = 2;
constexpr double kLog1pUlp = 3;
constexpr double kSoftplusUlp = 4;
constexpr double kSiluUlp = 4;

// Floats from `first` to `last` (same sign) at an even step of their bits, so that every exponent is covered;
// padded to a multiple of 16.
std::vector<float> Sweep(float first, float last) {
  constexpr std::uint32_t kStep = 1237;
  const std::uint32_t from =
      std::min(std::bit_cast<std::uint32_t>(first), std::bit_cast<std::uint32_t>(last));
  const std::uint32_t to = std::max(std::bit_cast<std::uint32_t>(first), std::bit_cast<std::uint32_t>(last));
  std::vector<float> values;
  for (std::uint64_t bits = from; bits <= to; bits += kStep) {
    values.push_back(std::bit_cast<float>(static_cast<std::uint32_t>(bits)));
  }
  while (values.size() % 16 != 0) values.push_back(last);
  return values;
}

double UlpsApart(float got, double want) {
  int exponent;
  std::frexp(want, &exponent);
  return std::fabs(got - want) / std::ldexp(1.0, std::max(exponent, -125) - 24);
}

struct NamedMath {
  std::string name;
  MathFunctions math;
};

std::vector<NamedMath> AllMath() {
  std::vector<NamedMath> all = {{"scalar", MathOf<F32x1>()}, {"portable", MathOf<F32x4>()}};
#if defined(__x86_64__)
  if (Supported(CpuPath::kAvx2)) all.push_back({"avx2", MathOfAvx2()});
  if (Supported(CpuPath::kAvx512)) all.push_back({"avx512", MathOfAvx512()});
#endif
  return all;
}

// The largest error of f over `x`, in ulp of the exact value, where that is at least `floor`; below, the
// error must stay under `floor` itself.
template <class Exact>
double WorstUlp(MathFunctions::Map f, const std::vector<float>& x, Exact exact, double floor = 0) {
  std::vector<float> y(x.size());
  f(x.data(), x.size(), y.data());
  double worst = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double want = exact(static_cast<double>(x[i]));
    if (std::fabs(want) < floor) {
      if (std::fabs(y[i] - want) > floor) return std::numeric_limits<double>::infinity();
    } else {
      worst = std::max(worst, UlpsApart(y[i], want));
    }
  }
  return worst;
}

TEST(MathTest, Exp2StaysWithinItsBoundOverTheWholeRange) {
  for (const NamedMath& m : AllMath()) {
    EXPECT_LE(WorstUlp(m.math.exp2, Sweep(-0.0f, -125.5f), [](double x) { return std::exp2(x); }), kExpUlp)
        << m.name;
  }
}

TEST(MathTest, Exp2StopsAtItsSmallestResult) {
  for (const NamedMath& m : AllMath()) {
    std::vector<float> x(16, -kInfinity), y(16);
    x[0] = -125.5f;
    x[1] = -1e30f;
    x[2] = -126.0f;
    m.math.exp2(x.data(), 16, y.data());
    EXPECT_LE(UlpsApart(y[0], std::exp2(-125.5)), kExpUlp) << m.name;
    for (const float value : y) EXPECT_EQ(value, y[0]) << m.name;
  }
}

TEST(MathTest, ExpStaysWithinItsBoundAndEndsAtZero) {
  for (const NamedMath& m : AllMath()) {
    EXPECT_LE(WorstUlp(m.math.exp, Sweep(-0.0f, -87.0f), [](double x) { return std::exp(x); }), kExpUlp)
        << m.name;
    std::vector<float> x = Sweep(-87.0001f, -1e30f), y(x.size());
    x[0] = -kInfinity;
    m.math.exp(x.data(), x.size(), y.data());
    for (const float value : y) ASSERT_EQ(value, 0.0f) << m.name;
  }
}

TEST(MathTest, Log1pStaysWithinItsBound) {
  for (const NamedMath& m : AllMath()) {
    EXPECT_LE(WorstUlp(m.math.log1p, Sweep(1e-38f, 1.0f), [](double x) { return std::log1p(x); }), kLog1pUlp)
        << m.name;
  }
}

TEST(MathTest, SoftplusStaysWithinItsBound) {
  const auto exact = [](double x) { return x > 0 ? x + std::log1p(std::exp(-x)) : std::log1p(std::exp(x)); };
  for (const NamedMath& m : AllMath()) {
    EXPECT_LE(WorstUlp(m.math.softplus, Sweep(-0.0f, -87.0f), exact), kSoftplusUlp) << m.name;
    EXPECT_LE(WorstUlp(m.math.softplus, Sweep(0.0f, 1e30f), exact), kSoftplusUlp) << m.name;
  }
}

TEST(MathTest, SiluStaysWithinItsBound) {
  constexpr double kFloor = 1.5e-36;
  const auto exact = [](double x) { return x / (1 + std::exp(-x)); };
  for (const NamedMath& m : AllMath()) {
    EXPECT_LE(WorstUlp(m.math.silu, Sweep(-1e-30f, -700.0f), exact, kFloor), kSiluUlp) << m.name;
    EXPECT_LE(WorstUlp(m.math.silu, Sweep(1e-30f, 1e30f), exact, kFloor), kSiluUlp) << m.name;
  }
}

TEST(MathTest, NanComesOutOfEveryFunction) {
  const auto nan_lanes = [](MathFunctions::Map f, const std::vector<float>& nans) {
    std::vector<float> x(16, -1.0f), y(16);
    std::copy(nans.begin(), nans.end(), x.begin());
    f(x.data(), 16, y.data());
    return std::count_if(y.begin(), y.end(), [](float value) { return std::isnan(value); });
  };
  for (const NamedMath& m : AllMath()) {
    for (const auto f : {m.math.exp, m.math.log1p, m.math.softplus, m.math.silu, m.math.round_to_bf16}) {
      EXPECT_EQ(
          nan_lanes(f, {kNan, -kNan, std::bit_cast<float>(0x7fffffffu), std::bit_cast<float>(0x7f800001u)}),
          4)
          << m.name;
    }
    EXPECT_EQ(nan_lanes(m.math.exp2, {kNan, -kNan}), 2) << m.name;
  }
}

// One lane with fused multiply-adds is the witness for every path that has them.
TEST(MathTest, FusedPathsAgreeInEveryBit) {
  const MathFunctions scalar = MathOf<F32x1>();
  for (const NamedMath& m : AllMath()) {
    if (m.name == "portable") continue;
    const auto same = [&](MathFunctions::Map f, MathFunctions::Map witness, const std::vector<float>& x) {
      std::vector<float> y(x.size()), want(x.size());
      f(x.data(), x.size(), y.data());
      witness(x.data(), x.size(), want.data());
      return std::memcmp(y.data(), want.data(), x.size() * sizeof(float)) == 0;
    };
    EXPECT_TRUE(same(m.math.exp2, scalar.exp2, Sweep(-0.0f, -200.0f))) << m.name;
    EXPECT_TRUE(same(m.math.exp, scalar.exp, Sweep(-0.0f, -200.0f))) << m.name;
    for (const float end : {-200.0f, 200.0f}) {
      EXPECT_TRUE(same(m.math.softplus, scalar.softplus, Sweep(std::copysign(0.0f, end), end))) << m.name;
      EXPECT_TRUE(same(m.math.silu, scalar.silu, Sweep(std::copysign(0.0f, end), end))) << m.name;
    }
  }
}

TEST(MathTest, RoundingToBf16IsThatOfTheWeights) {
  for (const NamedMath& m : AllMath()) {
    for (const float end : {-kInfinity, kInfinity}) {
      const std::vector<float> x = Sweep(std::copysign(0.0f, end), end);
      std::vector<float> y(x.size());
      m.math.round_to_bf16(x.data(), x.size(), y.data());
      for (std::size_t i = 0; i < x.size(); ++i) {
        ASSERT_EQ(std::bit_cast<std::uint32_t>(y[i]),
                  std::bit_cast<std::uint32_t>(mambad::kernels::RoundToBf16(x[i])))
            << m.name;
      }
    }
  }
}

template <class V>
float SumWith(const std::vector<float>& x) {
  TreeSum<V> sum;
  for (std::size_t i = 0; i < x.size(); i += V::kLanes) {
    sum.Add(static_cast<int>(i % kSumLanes) / V::kLanes,
            V::LoadN(x.data() + i, static_cast<int>(x.size() - i)));
  }
  return sum.Total();
}

TEST(MathTest, TheSumTreeDoesNotDependOnTheVectorWidth) {
  std::mt19937 random(7);
  std::normal_distribution<float> normal;
  for (const std::size_t size : {1, 5, 31, 32, 33, 64, 1000, 4099}) {
    std::vector<float> x(size);
    for (float& value : x) value = normal(random);
    EXPECT_EQ(SumWith<F32x1>(x), SumWith<F32x4>(x)) << size;
  }
}

// The known-answer vectors of the authors' Random123 distribution (kat_vectors, philox4x32 10).
TEST(MathTest, PhiloxGivesItsKnownAnswers) {
  const auto expect = [](PhiloxWords counter, std::uint32_t key0, std::uint32_t key1, PhiloxWords want) {
    const PhiloxWords got = Philox4x32(counter, key0, key1);
    for (int i = 0; i < 4; ++i) EXPECT_EQ(got.w[i], want.w[i]);
  };
  expect({{0, 0, 0, 0}}, 0, 0, {{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}});
  expect({{0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff}}, 0xffffffff, 0xffffffff,
         {{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}});
  expect({{0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}}, 0xa4093822, 0x299f31d0,
         {{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}});
}

TEST(MathTest, DrawsLieInTheUnitIntervalAndDifferByEveryPartOfTheKey) {
  for (std::uint64_t i = 0; i < 1000; ++i) {
    const double draw = UniformDraw(1, i, 0);
    EXPECT_GE(draw, 0.0);
    EXPECT_LT(draw, 1.0);
  }
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(2, 0, 0));
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(1, 1, 0));
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(1, 0, 1));
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(1 + (1ull << 32), 0, 0));
  EXPECT_NE(UniformDraw(1, 0, 0), UniformDraw(1, 1ull << 32, 0));
}

}  // namespace
}  // namespace mambad::kernels
