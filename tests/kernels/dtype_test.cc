#include "kernels/base/dtype.h"

#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

#include "gtest/gtest.h"

namespace mambad::kernels {
namespace {

TEST(DTypeTest, EveryBf16SurvivesTheRoundTrip) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const float value = Bf16ToFloat(static_cast<std::uint16_t>(bits));
    const std::uint16_t back = FloatToBf16(value);
    if (std::isnan(value)) {
      EXPECT_TRUE(std::isnan(Bf16ToFloat(back)));
    } else {
      ASSERT_EQ(back, bits);
    }
  }
}

TEST(DTypeTest, RoundsToTheNearestBf16AndTiesToEven) {
  for (std::uint32_t low = 0; low <= 0x7f7f; ++low) {  // up to the largest finite bf16 but one step
    const float below = Bf16ToFloat(static_cast<std::uint16_t>(low));
    const std::uint32_t bits = low << 16;
    const auto rounded = [](std::uint32_t b) { return FloatToBf16(std::bit_cast<float>(b)); };
    ASSERT_EQ(rounded(bits | 0x7fffu), low);
    ASSERT_EQ(rounded(bits | 0x8001u), low + 1);
    ASSERT_EQ(rounded(bits | 0x8000u), low + (low & 1));
    ASSERT_EQ(FloatToBf16(-below), low | 0x8000u);
  }
}

TEST(DTypeTest, KeepsInfinityAndNan) {
  const float infinity = std::numeric_limits<float>::infinity();
  EXPECT_EQ(RoundToBf16(infinity), infinity);
  EXPECT_EQ(RoundToBf16(-infinity), -infinity);
  EXPECT_EQ(RoundToBf16(std::numeric_limits<float>::max()), infinity);
  for (std::uint32_t bits : {0x7f800001u, 0x7fffffffu, 0xff800001u, 0xffffffffu}) {
    EXPECT_TRUE(std::isnan(RoundToBf16(std::bit_cast<float>(bits)))) << bits;
  }
}

TEST(DTypeTest, WidensEveryF16Exactly) {
  for (std::uint32_t bits = 0; bits <= 0xffff; ++bits) {
    const int exponent = (bits >> 10) & 0x1f;
    const int fraction = bits & 0x3ff;
    const float value = F16ToFloat(static_cast<std::uint16_t>(bits));
    ASSERT_EQ(std::signbit(value), (bits & 0x8000) != 0);
    if (exponent == 31) {
      ASSERT_EQ(std::isnan(value), fraction != 0);
      ASSERT_EQ(std::isinf(value), fraction == 0);
    } else {
      const double want =
          exponent == 0 ? std::ldexp(fraction, -24) : std::ldexp(1024 + fraction, exponent - 25);
      ASSERT_EQ(std::fabs(double{value}), want);
    }
  }
}

}  // namespace
}  // namespace mambad::kernels
