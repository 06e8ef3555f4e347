// The rounding of narrow states: right on average, a function of its key alone, and the same in every form.
#include "kernels/narrow_state/narrow_state.h"

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/math/narrow_block.h"
#include "tests/support/random_floats.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

constexpr std::uint32_t kDraws = 1u << 16;

TEST(StateRoundingTest, TheMeanOverAllBitsIsTheValue) {
  std::mt19937 random(5);
  for (int trial = 0; trial < 200; ++trial) {
    // Any sign, exponent and fraction; subnormals too, but none that rounds past the largest bf16.
    const float value = std::bit_cast<float>(static_cast<std::uint32_t>(random()) & 0xbfffffffu);
    double sum = 0;
    for (std::uint32_t bits = 0; bits < kDraws; ++bits) {
      const float rounded = FromBf16(RoundToBf16AtRandom(value, bits));
      ASSERT_LE(std::fabs(rounded - value), std::fabs(value) * 0x1p-7f + 0x1p-133f);
      sum += rounded;
    }
    // Exact: 2^16 terms of 8 bits that differ by one unit fit into a double.
    ASSERT_EQ(sum / kDraws, static_cast<double>(value)) << value;
  }
}

TEST(StateRoundingTest, KeepsWhatBf16HoldsAndWhatIsNotFinite) {
  for (const std::uint32_t bits : {0u, 1u, 0x7fffu, 0xffffu}) {
    for (const float value : {0.0f, -0.0f, 1.0f, -3.5f, 0x1p-126f, 0x1.fep127f}) {
      EXPECT_EQ(std::bit_cast<std::uint32_t>(FromBf16(RoundToBf16AtRandom(value, bits))),
                std::bit_cast<std::uint32_t>(value));
    }
    EXPECT_EQ(FromBf16(RoundToBf16AtRandom(INFINITY, bits)), INFINITY);
    EXPECT_EQ(FromBf16(RoundToBf16AtRandom(-INFINITY, bits)), -INFINITY);
    for (const std::uint32_t nan : {0x7fffffffu, 0xffffffffu, 0x7fc00000u, 0x7f800001u}) {
      EXPECT_FALSE(std::isfinite(FromBf16(RoundToBf16AtRandom(std::bit_cast<float>(nan), bits)))) << nan;
    }
  }
}

// A value that moves by far less than half a unit of bf16 a step arrives where it should, on average;
// rounding to nearest would leave it where it began.
TEST(StateRoundingTest, SmallStepsAddUp) {
  constexpr int kSteps = 4096, kChannels = 512;
  constexpr float kStep = 0x1p-12f;  // a unit of bf16 at 1 is 2^-7
  double sum = 0;
  for (std::uint32_t channel = 0; channel < kChannels; ++channel) {
    float h = 1.0f;
    for (std::uint64_t position = 1; position <= kSteps; ++position) {
      h = FromBf16(RoundStateElement({3, position}, 2, channel, 5, h + kStep));
    }
    sum += h;
  }
  // Each step's variance is below unit * step = 2^-19, so that of an end below 2^-7, and the mean of 512 has
  // a deviation below 2^-8; four of them.
  EXPECT_NEAR(sum / kChannels, 1.0 + kSteps * static_cast<double>(kStep), 4 * 0x1p-8);
}

TEST(StateRoundingTest, EveryPartOfTheKeyMatters) {
  const auto draw = [](RoundingKey key, std::uint32_t layer, std::uint32_t channel, std::uint32_t n) {
    const PhiloxWords words = RoundingWords(key, layer, channel / kRoundingQuad, RoundingBlockOf(n));
    return words.w[channel % kRoundingQuad] >> RoundingShiftOf(n) & 0xffffu;
  };
  // Equal draws of two keys are as rare as chance has it: one in 65536.
  const auto equal = [&](RoundingKey a, std::uint32_t layer_a, std::uint32_t d, std::uint32_t dn,
                         RoundingKey b, std::uint32_t layer_b) {
    int same = 0;
    for (std::uint32_t channel = 0; channel < 100; ++channel) {
      for (std::uint32_t n = 0; n < 100; ++n)
        same += draw(a, layer_a, channel, n) == draw(b, layer_b, channel + d, n + dn);
    }
    return same;
  };
  const RoundingKey key = {.seed = 7, .position = 9};
  EXPECT_EQ(equal(key, 1, 0, 0, key, 1), 10000);
  EXPECT_LE(equal(key, 1, 0, 0, {8, 9}, 1), 3);
  EXPECT_LE(equal(key, 1, 0, 0, {7 + (1ull << 40), 9}, 1), 3);
  EXPECT_LE(equal(key, 1, 0, 0, {7, 10}, 1), 3);
  EXPECT_LE(equal(key, 1, 0, 0, {7, 9 + (1ull << 40)}, 1), 3);
  EXPECT_LE(equal(key, 1, 0, 0, key, 2), 3);
  EXPECT_LE(equal(key, 1, 1, 0, key, 1), 3);
  EXPECT_LE(equal(key, 1, 4, 0, key, 1), 3);
  for (const std::uint32_t dn : {1u, 4u, 8u, 128u}) EXPECT_LE(equal(key, 1, 0, dn, key, 1), 3) << dn;
}

// Slots of two layers between other bytes, and wide slots.
class NarrowStateTest : public testing::Test {
 protected:
  static constexpr std::int32_t kSlots = 5;
  static constexpr std::int64_t kLayers = 3;
  static constexpr std::int64_t kBefore = sizeof(RoundingKey) + 4;

  void Place(std::int64_t D, std::int64_t N) {
    D_ = D;
    N_ = N;
    layer_bytes_ = (N * D * 2 + 3) / 4 * 4 + 12;
    stride_ = (kBefore + kLayers * layer_bytes_ + 7) / 8 * 8 + 8;
    slots_.assign(static_cast<std::size_t>(kSlots * stride_), std::byte{0xa5});
    wide_layer_bytes_ = N * D * 4 + 8;
    wide_stride_ = kLayers * wide_layer_bytes_ + 4;
    wide_.assign(static_cast<std::size_t>(kSlots * wide_stride_), std::byte{0x5a});
    for (std::int32_t slot = 0; slot < kSlots; ++slot)
      Narrow().KeyAt(slot) = {.seed = 100u + static_cast<std::uint32_t>(slot), .position = 1ull << 33};
  }
  SlotView Narrow() {
    return {.base = slots_.data(),
            .slot_stride_bytes = stride_,
            .layer_offset_bytes = kBefore,
            .slots = kSlots,
            .dtype = DType::kBf16};
  }
  NarrowStateArgs Args(const TestVector<std::int32_t>& narrow, const TestVector<std::int32_t>& wide) {
    return {.narrow = Narrow(),
            .narrow_layer_stride = layer_bytes_,
            .wide = {.base = wide_.data(),
                     .slot_stride_bytes = wide_stride_,
                     .layer_offset_bytes = 4,
                     .slots = kSlots},
            .wide_layer_stride = wide_layer_bytes_,
            .layers = kLayers,
            .state_size = N_,
            .channels = D_,
            .rows = static_cast<std::int64_t>(narrow.size()),
            .narrow_slot = narrow.data(),
            .wide_slot = wide.data()};
  }
  std::uint16_t* NarrowAt(std::int32_t slot, std::int64_t layer) {
    return reinterpret_cast<std::uint16_t*>(slots_.data() + slot * stride_ + kBefore + layer * layer_bytes_);
  }
  float* WideAt(std::int32_t slot, std::int64_t layer) {
    return reinterpret_cast<float*>(wide_.data() + slot * wide_stride_ + 4 + layer * wide_layer_bytes_);
  }

  std::unique_ptr<Device> device_ =
      Device::Create({.kind = TestsRunOnGpu() ? DeviceKind::kCuda : DeviceKind::kCpu, .threads = 3}).value();
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
  std::int64_t D_ = 0, N_ = 0, layer_bytes_ = 0, stride_ = 0, wide_layer_bytes_ = 0, wide_stride_ = 0;
  TestVector<std::byte> slots_, wide_;
};

TEST_F(NarrowStateTest, RoundsEachElementByItsKeyAndTouchesNothingElse) {
  for (const std::int64_t D : {1, 7, 16, 50, 130}) {
    for (const std::int64_t N : {1, 5, 8, 16, 33}) {
      Place(D, N);
      const std::vector<float> values = RandomFloats(N * D, static_cast<unsigned>(D * 100 + N));
      for (std::int64_t layer = 0; layer < kLayers; ++layer) {
        std::copy(values.begin(), values.end(), WideAt(4, layer));
        std::copy(values.rbegin(), values.rend(), WideAt(0, layer));
      }
      TestVector<std::byte> want = slots_;
      const auto before_wide = wide_;
      const TestVector<std::int32_t> narrow = {2, kNoSlot, 1}, wide = {4, 3, 0};
      ASSERT_TRUE(RoundStates(*stream_, Args(narrow, wide)).ok());
      ASSERT_TRUE(stream_->Synchronize().ok());
      std::swap(want, slots_);  // slots_: as before
      for (std::size_t row = 0; row < narrow.size(); ++row) {
        if (narrow[row] == kNoSlot) continue;
        for (std::int64_t layer = 0; layer < kLayers; ++layer) {
          for (std::int64_t i = 0; i < N * D; ++i) {
            NarrowAt(narrow[row], layer)[i] =
                RoundStateElement(Narrow().KeyAt(narrow[row]), static_cast<std::uint32_t>(layer),
                                  static_cast<std::uint32_t>(i % D), static_cast<std::uint32_t>(i / D),
                                  WideAt(wide[row], layer)[i]);
          }
        }
      }
      ASSERT_EQ(std::memcmp(want.data(), slots_.data(), want.size()), 0) << D << " x " << N;
      ASSERT_EQ(std::memcmp(wide_.data(), before_wide.data(), wide_.size()), 0);
    }
  }
}

TEST_F(NarrowStateTest, WidensExactlyAndTouchesNothingElse) {
  Place(50, 9);
  for (std::int32_t slot = 0; slot < kSlots; ++slot) {
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      for (std::int64_t i = 0; i < N_ * D_; ++i)
        NarrowAt(slot, layer)[i] = static_cast<std::uint16_t>(slot * 7919 + layer * 104729 + i * 31);
    }
  }
  const auto before = slots_;
  TestVector<std::byte> got = wide_;
  const TestVector<std::int32_t> narrow = {kNoSlot, 3, 0}, wide = {0, 1, 4};
  ASSERT_TRUE(WidenStates(*stream_, Args(narrow, wide)).ok());
  ASSERT_TRUE(stream_->Synchronize().ok());
  std::swap(got, wide_);
  for (std::size_t row = 1; row < 3; ++row) {
    for (std::int64_t layer = 0; layer < kLayers; ++layer) {
      for (std::int64_t i = 0; i < N_ * D_; ++i)
        WideAt(wide[row], layer)[i] = FromBf16(NarrowAt(narrow[row], layer)[i]);
    }
  }
  EXPECT_EQ(std::memcmp(got.data(), wide_.data(), got.size()), 0);
  EXPECT_EQ(std::memcmp(before.data(), slots_.data(), before.size()), 0);
}

TEST_F(NarrowStateTest, KeysCountTheTokens) {
  Place(3, 2);
  const TestVector<std::int32_t> rows = {3, kNoSlot, 0};
  const TestVector<std::int64_t> offsets = {0, 5, 7, 1007};
  ASSERT_TRUE(AdvanceKeys(*stream_, {.slots = Narrow(), .rows = 3, .slot_index = rows.data()}).ok());
  ASSERT_TRUE(
      AdvanceKeys(*stream_,
                  {.slots = Narrow(), .rows = 3, .slot_index = rows.data(), .offsets = offsets.data()})
          .ok());
  ASSERT_TRUE(stream_->Synchronize().ok());
  const std::uint64_t consumed[] = {1001, 0, 0, 6, 0};
  for (std::int32_t slot = 0; slot < kSlots; ++slot) {
    EXPECT_EQ(Narrow().KeyAt(slot).seed, 100u + static_cast<std::uint32_t>(slot));
    EXPECT_EQ(Narrow().KeyAt(slot).position, (1ull << 33) + consumed[slot]);
  }
}

TEST_F(NarrowStateTest, RefusesWhatItCannotCompute) {
  Place(3, 2);
  const TestVector<std::int32_t> slot = {1};
  const auto refused = [&](auto change) {
    NarrowStateArgs args = Args(slot, slot);
    change(args);
    return absl::IsInvalidArgument(RoundStates(*stream_, args)) &&
           absl::IsInvalidArgument(WidenStates(*stream_, args));
  };
  EXPECT_TRUE(refused([](NarrowStateArgs& a) { a.rows = -1; }));
  EXPECT_TRUE(refused([](NarrowStateArgs& a) { a.state_size = 257; }));
  EXPECT_TRUE(refused([](NarrowStateArgs& a) { a.channels = 0; }));
  EXPECT_TRUE(refused([](NarrowStateArgs& a) { a.narrow.dtype = DType::kF32; }));
  EXPECT_TRUE(refused([](NarrowStateArgs& a) { a.wide_slot = nullptr; }));
}

}  // namespace
}  // namespace mambad::kernels
