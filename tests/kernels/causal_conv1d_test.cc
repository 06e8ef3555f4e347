#include "kernels/causal_conv1d/causal_conv1d.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/base/dtype.h"
#include "kernels/reference/causal_conv1d_ref.h"
#include "tests/support/cpu_device.h"
#include "tests/support/random_floats.h"
#include "tests/support/slot_pool.h"

namespace mambad::kernels {
namespace {

constexpr float kPoison = -12345.0f;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Each of K products and sums rounds once (2^-24 of the magnitude each). SiLU passes an absolute error on
// with a slope of at most 1.1, and adds 4 ulp (2^-22 relative) of its own.
double Tolerance(std::int64_t K, double magnitude, double y) {
  return 1.1 * 2.0 * K * 0x1p-24 * magnitude + 4 * 0x1p-23 * std::fabs(y);
}

// A filter in the checkpoint's layout and in the op's.
struct Filter {
  std::int64_t D, K;
  std::vector<float> checkpoint, weight, bias;

  Filter(std::int64_t D, std::int64_t K)
      : D(D), K(K), checkpoint(RandomFloats(D * K, 1)), bias(RandomFloats(D, 2)) {
    weight.resize(D * K);
    for (std::int64_t d = 0; d < D; ++d) {
      for (std::int64_t k = 0; k < K; ++k) weight[k * D + d] = checkpoint[d * K + k];
    }
  }
  CausalConv1dFilter Get(bool with_bias = true, bool bf16 = false) const {
    return {.weight = weight.data(),
            .bias = with_bias ? bias.data() : nullptr,
            .channels = D,
            .width = static_cast<std::int32_t>(K),
            .round_input_to_bf16 = bf16};
  }
};

class CausalConv1dTest : public ::testing::TestWithParam<CpuPath> {
 protected:
  std::unique_ptr<Device> device_ = DeviceOn(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
};

struct Result {
  std::vector<float> y;
  std::vector<float> window;
};

// One sequence of T tokens from `window` on, cut into chunks that end at `cuts` (and at T), all in one slot.
Result RunChunks(Stream& stream, const CausalConv1dFilter& filter, const std::vector<float>& x,
                 const std::vector<float>& window, std::vector<std::int64_t> cuts) {
  const std::int64_t T = static_cast<std::int64_t>(x.size()) / filter.channels;
  cuts.push_back(T);
  SlotPool pool(3, (filter.width - 1) * filter.channels);
  pool.Set(1, window);
  Result result{std::vector<float>(x.size()), {}};
  std::int64_t begin = 0;
  for (const std::int64_t end : cuts) {
    const std::int64_t offsets[] = {begin, end};
    const std::int32_t slot = 1;
    EXPECT_TRUE(CausalConv1dPrefill(stream, {.filter = filter,
                                             .x = x.data(),
                                             .x_stride = filter.channels,
                                             .y = result.y.data(),
                                             .y_stride = filter.channels,
                                             .chunks = 1,
                                             .offsets = offsets,
                                             .slot_index = &slot,
                                             .window = pool.View()})
                    .ok());
    begin = end;
  }
  result.window = pool.Get(1);
  return result;
}

TEST_P(CausalConv1dTest, PrefillMatchesTheReferenceAndWritesNothingElse) {
  for (const std::int64_t D : {1, 7, 16, 33, 70}) {
    for (const std::int64_t K : {1, 2, 3, 4, 5, 8, 13}) {
      const Filter filter(D, K);
      for (const bool bf16 : {false, true}) {
        const bool with_bias = !bf16;
        const std::vector<std::int64_t> offsets = {2, 3, 3, 40, 42, 109};
        const std::vector<std::int32_t> slots = {5, 0, 3, kNoSlot, 6};
        const std::int64_t T = 110, x_stride = 2 * D + 1, y_stride = D + 2;
        const std::vector<float> x = RandomFloats(T * x_stride, 3);
        std::vector<float> rounded = x;
        for (float& value : rounded) value = bf16 ? RoundToBf16(value) : value;
        std::vector<float> y(T * y_stride, kPoison);
        SlotPool pool(8, (K - 1) * D);
        std::vector<std::vector<float>> windows;
        for (const std::int32_t slot : slots) {
          windows.push_back(RandomFloats((K - 1) * D, 10 + slot));
          if (slot != kNoSlot) pool.Set(slot, windows.back());
        }
        ASSERT_TRUE(CausalConv1dPrefill(*stream_, {.filter = filter.Get(with_bias, bf16),
                                                   .x = x.data(),
                                                   .x_stride = x_stride,
                                                   .y = y.data(),
                                                   .y_stride = y_stride,
                                                   .chunks = static_cast<std::int64_t>(slots.size()),
                                                   .offsets = offsets.data(),
                                                   .slot_index = slots.data(),
                                                   .window = pool.View()})
                        .ok());
        std::vector<double> want(T * D, kPoison), magnitude(T * D);
        std::set<std::int32_t> touched;
        for (std::size_t c = 0; c < slots.size(); ++c) {
          if (slots[c] == kNoSlot) continue;
          touched.insert(slots[c]);
          const std::int64_t at = offsets[c];
          reference::CausalConv1d(&rounded[at * x_stride], x_stride, offsets[c + 1] - at,
                                  filter.checkpoint.data(), with_bias ? filter.bias.data() : nullptr, D, K,
                                  windows[c].data(), &want[at * D], &magnitude[at * D]);
          ASSERT_EQ(pool.Get(slots[c]), windows[c]) << "D " << D << " K " << K;
        }
        ASSERT_TRUE(pool.RestIsUntouched(touched));
        for (std::int64_t i = 0; i < T * y_stride; ++i) {
          const std::int64_t t = i / y_stride, d = i % y_stride;
          if (d >= D || want[t * D + d] == kPoison) {
            ASSERT_EQ(y[i], kPoison);
          } else {
            ASSERT_NEAR(y[i], want[t * D + d], Tolerance(K, magnitude[t * D + d], want[t * D + d]))
                << "D " << D << " K " << K << " t " << t << " d " << d;
          }
        }
      }
    }
  }
}

TEST_P(CausalConv1dTest, AChunkSplitAnywhereGivesTheSameBits) {
  for (const std::int64_t K : {1, 2, 4, 7}) {
    const Filter filter(21, K);
    const std::vector<float> x = RandomFloats(71 * 21, 4);
    const std::vector<float> window = RandomFloats((K - 1) * 21, 5);
    for (const bool bf16 : {false, true}) {
      const Result whole = RunChunks(*stream_, filter.Get(true, bf16), x, window, {});
      for (std::int64_t cut = 0; cut <= 71; ++cut) {
        const Result split = RunChunks(*stream_, filter.Get(true, bf16), x, window, {cut});
        ASSERT_EQ(split.y, whole.y) << "K " << K << " cut " << cut;
        ASSERT_EQ(split.window, whole.window) << "K " << K << " cut " << cut;
      }
      std::vector<std::int64_t> everywhere(70);
      std::iota(everywhere.begin(), everywhere.end(), 1);
      ASSERT_EQ(RunChunks(*stream_, filter.Get(true, bf16), x, window, everywhere).y, whole.y);
    }
  }
}

TEST_P(CausalConv1dTest, StepsGiveTheBitsOfPrefillInAnyRowSlotAndBatch) {
  constexpr std::int64_t kTokens = 9;
  for (const std::int64_t D : {5, 16, 50}) {
    for (const std::int64_t K : {1, 3, 4, 6}) {
      const Filter filter(D, K);
      const std::vector<float> x = RandomFloats(kTokens * D, 6);
      const std::vector<float> window = RandomFloats((K - 1) * D, 7);
      const Result whole = RunChunks(*stream_, filter.Get(), x, window, {});
      for (int threads = 1; threads <= 3; ++threads) {
        const auto device = DeviceOn(GetParam(), threads);
        const auto stream = Stream::Create(*device).value();
        for (const std::int64_t rows : {1, 2, 5}) {
          const std::int64_t at = rows - 1 - threads % rows;
          SlotPool pool(11, (K - 1) * D);
          std::vector<std::int32_t> slots = {2, 9, kNoSlot, 4, 7};
          slots.resize(rows);
          slots[at] = 10;
          for (const std::int32_t slot : slots) {
            if (slot != kNoSlot) pool.Set(slot, std::vector<float>((K - 1) * D, kNan));
          }
          pool.Set(10, window);
          for (std::int64_t t = 0; t < kTokens; ++t) {
            std::vector<float> in(rows * D, kNan), out(rows * D, kPoison);
            std::memcpy(&in[at * D], &x[t * D], D * sizeof(float));
            ASSERT_TRUE(CausalConv1dStep(*stream, {.filter = filter.Get(),
                                                   .x = in.data(),
                                                   .x_stride = D,
                                                   .y = out.data(),
                                                   .y_stride = D,
                                                   .rows = rows,
                                                   .slot_index = slots.data(),
                                                   .window = pool.View()})
                            .ok());
            ASSERT_EQ(std::memcmp(&out[at * D], &whole.y[t * D], D * sizeof(float)), 0)
                << "D " << D << " K " << K;
            for (std::int64_t r = 0; r < rows; ++r) {
              if (slots[r] == kNoSlot) {
                ASSERT_EQ(out[r * D], kPoison);
              }
            }
          }
          ASSERT_EQ(pool.Get(10), whole.window);
          ASSERT_TRUE(pool.RestIsUntouched({slots.begin(), slots.end()}));
        }
      }
    }
  }
}

TEST_P(CausalConv1dTest, MayWorkInPlace) {
  const Filter filter(37, 4);
  const std::vector<float> x = RandomFloats(50 * 37, 8);
  const std::vector<float> window = RandomFloats(3 * 37, 9);
  const Result want = RunChunks(*stream_, filter.Get(), x, window, {});
  SlotPool pool(1, 3 * 37);
  pool.Set(0, window);
  std::vector<float> y = x;
  const std::int64_t offsets[] = {0, 50};
  const std::int32_t slot = 0;
  ASSERT_TRUE(CausalConv1dPrefill(*stream_, {.filter = filter.Get(),
                                             .x = y.data(),
                                             .x_stride = 37,
                                             .y = y.data(),
                                             .y_stride = 37,
                                             .chunks = 1,
                                             .offsets = offsets,
                                             .slot_index = &slot,
                                             .window = pool.View()})
                  .ok());
  EXPECT_EQ(y, want.y);
}

TEST_P(CausalConv1dTest, RefusesWhatItCannotCompute) {
  const Filter filter(4, 4);
  SlotPool pool(2, 12);
  std::vector<float> x(8), y(8, kPoison);
  const std::vector<std::int64_t> offsets = {0, 1, 2};
  const std::vector<std::int32_t> slots = {0, 1};
  const CausalConv1dPrefillArgs good = {.filter = filter.Get(),
                                        .x = x.data(),
                                        .x_stride = 4,
                                        .y = y.data(),
                                        .y_stride = 4,
                                        .chunks = 2,
                                        .offsets = offsets.data(),
                                        .slot_index = slots.data(),
                                        .window = pool.View()};
  const auto refused = [&](auto change) {
    CausalConv1dPrefillArgs args = good;
    change(args);
    return CausalConv1dPrefill(*stream_, args).code() == absl::StatusCode::kInvalidArgument;
  };
  using Args = CausalConv1dPrefillArgs;
  const std::vector<std::int64_t> descending = {0, 2, 1}, negative = {-1, 1, 2};
  const std::vector<std::int32_t> beyond = {0, 2}, below = {-2, 0};
  EXPECT_TRUE(refused([](Args& a) { a.filter.channels = 0; }));
  EXPECT_TRUE(refused([](Args& a) { a.filter.width = 0; }));
  EXPECT_TRUE(refused([](Args& a) { a.filter.width = kMaxConvWidth + 1; }));
  EXPECT_TRUE(refused([](Args& a) { a.filter.weight = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.x = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.y_stride = 3; }));
  EXPECT_TRUE(refused([](Args& a) { a.window.dtype = DType::kBf16; }));
  EXPECT_TRUE(refused([](Args& a) { a.chunks = -1; }));
  EXPECT_TRUE(refused([&](Args& a) { a.offsets = descending.data(); }));
  EXPECT_TRUE(refused([&](Args& a) { a.offsets = negative.data(); }));
  EXPECT_TRUE(refused([&](Args& a) { a.slot_index = beyond.data(); }));
  EXPECT_TRUE(refused([&](Args& a) { a.slot_index = below.data(); }));
  EXPECT_TRUE(refused([](Args& a) { a.window.base = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.window.layer_offset_bytes = 2; }));
  EXPECT_EQ(y, std::vector<float>(8, kPoison));
  EXPECT_TRUE(pool.RestIsUntouched({}));
}

INSTANTIATE_TEST_SUITE_P(Paths, CausalConv1dTest, ::testing::ValuesIn(PathsToTest()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace mambad::kernels
