#include "kernels/selective_scan/selective_scan.h"

#include <cmath>
#include <cstring>
#include <limits>
#include <memory>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/math/state_rounding.h"
#include "kernels/reference/selective_scan_ref.h"
#include "tests/support/cpu_device.h"
#include "tests/support/random_floats.h"
#include "tests/support/slot_pool.h"

namespace mambad::kernels {
namespace {

constexpr float kPoison = -12345.0f;
constexpr float kNan = std::numeric_limits<float>::quiet_NaN();

// Errors relative to the magnitudes of reference::SelectiveScan (sums of absolute terms), in units of 2^-24.
// delta: raw + bias rounds once and softplus has 4 ulp, relative to delta for the sizes drawn here (delta >=
// 0.01): 12 in all. A decay exp(-p), p = delta * |A| <= 40 where it is above 1e-17: its exponent carries
// delta's 12 plus the rounding of decay_log2 and of the product, times p; but p * exp(-p) <= 0.37, so
// relative to the largest state that costs at most 14 * 0.37 < 6, plus 4 of the polynomial. A step adds these
// 10 + 2 roundings, and 16 for its input (delta, two products). Errors of earlier steps shrink with the decay
// like the state itself, so that after t steps the error is below 28 t. Output: N products and sums (2N / 4 +
// 4), the skip, gate 8 and product.
double StateTolerance(std::int64_t steps, double magnitude) { return 28.0 * steps * 0x1p-24 * magnitude; }
double OutputTolerance(std::int64_t steps, std::int64_t N, double magnitude) {
  return (28.0 * steps + N / 2.0 + 16.0) * 0x1p-24 * magnitude;
}

// The parameters of a layer and the inputs of T tokens, as dense arrays.
struct Problem {
  std::int64_t D, N, T;
  std::vector<float> a_log, decay, bias, skip, x, delta_raw, z, b, c;

  Problem(std::int64_t D, std::int64_t N, std::int64_t T)
      : D(D),
        N(N),
        T(T),
        a_log(RandomFloats(D * N, 1, 0.5f, 0.8f)),
        decay(D * N),
        bias(RandomFloats(D, 2, -2.0f, 1.0f)),
        skip(RandomFloats(D, 3)),
        x(RandomFloats(T * D, 4)),
        delta_raw(RandomFloats(T * D, 5, 0.5f)),
        z(RandomFloats(T * D, 6, 0.0f, 3.0f)),
        b(RandomFloats(T * N, 7)),
        c(RandomFloats(T * N, 8)) {
    PackDecay(a_log.data(), D, N, decay.data());
  }
  SelectiveScanParams Params() const {
    return {.decay_log2 = decay.data(),
            .delta_bias = bias.data(),
            .skip = skip.data(),
            .channels = D,
            .state_size = N};
  }
  SelectiveScanInputs Inputs() const {
    return {.x = x.data(),
            .x_stride = D,
            .delta_raw = delta_raw.data(),
            .delta_stride = D,
            .z = z.data(),
            .z_stride = D,
            .b = b.data(),
            .c = c.data(),
            .bc_stride = N};
  }
  std::vector<float> InitialState() const { return RandomFloats(N * D, 9); }
};

// (count, width) inside rows of `stride` floats, the rest NaN: whoever reads it shows it.
std::vector<float> Widen(const std::vector<float>& dense, std::int64_t width, std::int64_t stride) {
  std::vector<float> wide(dense.size() / width * stride, kNan);
  for (std::size_t i = 0; i < dense.size(); ++i) wide[i / width * stride + i % width] = dense[i];
  return wide;
}

struct Result {
  std::vector<float> y, state;
};

Result RunChunks(Stream& stream, const Problem& problem, std::vector<std::int64_t> cuts) {
  cuts.push_back(problem.T);
  SlotPool pool(2, problem.N * problem.D);
  pool.Set(1, problem.InitialState());
  Result result{std::vector<float>(problem.T * problem.D), {}};
  std::int64_t begin = 0;
  for (const std::int64_t end : cuts) {
    const std::int64_t offsets[] = {begin, end};
    const std::int32_t slot = 1;
    EXPECT_TRUE(SelectiveScanPrefill(stream, {.params = problem.Params(),
                                              .in = problem.Inputs(),
                                              .y = result.y.data(),
                                              .y_stride = problem.D,
                                              .chunks = 1,
                                              .offsets = offsets,
                                              .slot_index = &slot,
                                              .state = pool.View()})
                    .ok());
    begin = end;
  }
  result.state = pool.Get(1);
  return result;
}

class SelectiveScanTest : public ::testing::TestWithParam<CpuPath> {
 protected:
  std::unique_ptr<Device> device_ = DeviceOn(GetParam(), 2);
  std::unique_ptr<Stream> stream_ = Stream::Create(*device_).value();
};

TEST_P(SelectiveScanTest, PrefillMatchesTheReferenceAndWritesNothingElse) {
  const std::vector<std::int64_t> offsets = {1, 2, 2, 37, 40, 105};
  const std::vector<std::int32_t> slots = {4, 1, 0, kNoSlot, 6};
  for (const std::int64_t D : {1, 7, 16, 33, 50}) {
    for (const std::int64_t N : {1, 2, 3, 4, 7, 16, 33}) {
      const Problem p(D, N, 106);
      const std::int64_t stride = D + 5, bc_stride = 2 * N + 3;
      const std::vector<float> x = Widen(p.x, D, stride), delta = Widen(p.delta_raw, D, stride),
                               z = Widen(p.z, D, stride), b = Widen(p.b, N, bc_stride),
                               c = Widen(p.c, N, bc_stride);
      std::vector<float> y(p.T * stride, kPoison);
      SlotPool pool(7, N * D);
      for (const std::int32_t slot : slots) {
        if (slot != kNoSlot) pool.Set(slot, RandomFloats(N * D, 20 + slot));
      }
      const bool with_bias = N != 4;
      SelectiveScanParams params = p.Params();
      if (!with_bias) params.delta_bias = nullptr;
      ASSERT_TRUE(SelectiveScanPrefill(*stream_, {.params = params,
                                                  .in = {.x = x.data(),
                                                         .x_stride = stride,
                                                         .delta_raw = delta.data(),
                                                         .delta_stride = stride,
                                                         .z = z.data(),
                                                         .z_stride = stride,
                                                         .b = b.data(),
                                                         .c = c.data(),
                                                         .bc_stride = bc_stride},
                                                  .y = y.data(),
                                                  .y_stride = stride,
                                                  .chunks = static_cast<std::int64_t>(slots.size()),
                                                  .offsets = offsets.data(),
                                                  .slot_index = slots.data(),
                                                  .state = pool.View()})
                      .ok());
      std::vector<double> want(p.T * D, kPoison), magnitude(p.T * D);
      std::vector<std::int64_t> steps(p.T);
      std::set<std::int32_t> touched;
      for (std::size_t i = 0; i < slots.size(); ++i) {
        if (slots[i] == kNoSlot) continue;
        touched.insert(slots[i]);
        const std::vector<float> initial = RandomFloats(N * D, 20 + slots[i]);
        std::vector<double> state(initial.begin(), initial.end()), state_magnitude = state;
        for (double& value : state_magnitude) value = std::fabs(value);
        const std::int64_t at = offsets[i], count = offsets[i + 1] - at;
        reference::SelectiveScan(
            {&p.x[at * D], &p.delta_raw[at * D], &p.z[at * D], &p.b[at * N], &p.c[at * N], p.a_log.data(),
             with_bias ? p.bias.data() : nullptr, p.skip.data()},
            count, D, N, state.data(), &want[at * D], state_magnitude.data(), &magnitude[at * D]);
        for (std::int64_t t = 0; t < count; ++t) steps[at + t] = t + 1;
        const std::vector<float> got = pool.Get(slots[i]);
        for (std::int64_t k = 0; k < N * D; ++k) {
          ASSERT_NEAR(got[k], state[k], StateTolerance(count, state_magnitude[k])) << "D " << D << " N " << N;
        }
      }
      ASSERT_TRUE(pool.RestIsUntouched(touched));
      for (std::int64_t i = 0; i < p.T * stride; ++i) {
        const std::int64_t t = i / stride, d = i % stride;
        if (d >= D || want[t * D + d] == kPoison) {
          ASSERT_EQ(y[i], kPoison);
        } else {
          ASSERT_NEAR(y[i], want[t * D + d], OutputTolerance(steps[t], N, magnitude[t * D + d]))
              << "D " << D << " N " << N << " t " << t << " d " << d;
        }
      }
    }
  }
}

TEST_P(SelectiveScanTest, AChunkSplitAnywhereGivesTheSameBits) {
  for (const std::int64_t N : {3, 16}) {
    const Problem problem(21, N, 69);
    const Result whole = RunChunks(*stream_, problem, {});
    for (std::int64_t cut = 0; cut <= problem.T; ++cut) {
      const Result split = RunChunks(*stream_, problem, {cut});
      ASSERT_EQ(split.y, whole.y) << cut;
      ASSERT_EQ(split.state, whole.state) << cut;
    }
    std::vector<std::int64_t> everywhere(problem.T - 1);
    std::iota(everywhere.begin(), everywhere.end(), 1);
    ASSERT_EQ(RunChunks(*stream_, problem, everywhere).state, whole.state);
  }
}

TEST_P(SelectiveScanTest, StepsGiveTheBitsOfPrefillInAnyRowSlotAndBatch) {
  for (const std::int64_t D : {5, 16, 600}) {
    const std::int64_t N = D == 5 ? 7 : 16;
    const Problem problem(D, N, 6);
    const Result whole = RunChunks(*stream_, problem, {});
    for (int threads = 1; threads <= 3; ++threads) {
      const auto device = DeviceOn(GetParam(), threads);
      const auto stream = Stream::Create(*device).value();
      for (const std::int64_t rows : {1, 2, 5}) {
        const std::int64_t at = threads % rows;
        std::vector<std::int32_t> slots = {2, 9, 3, kNoSlot, 7};
        slots.resize(rows);
        slots[at] = 10;
        SlotPool pool(11, N * D);
        for (const std::int32_t slot : slots) {
          if (slot != kNoSlot) pool.Set(slot, std::vector<float>(N * D, kNan));
        }
        pool.Set(10, problem.InitialState());
        for (std::int64_t t = 0; t < problem.T; ++t) {
          std::vector<float> x(rows * D, kNan), delta = x, z = x, b(rows * N, kNan), c = b,
                                                y(rows * D, kPoison);
          const auto place = [&](std::vector<float>& to, const std::vector<float>& from, std::int64_t width) {
            std::memcpy(&to[at * width], &from[t * width], width * sizeof(float));
          };
          place(x, problem.x, D);
          place(delta, problem.delta_raw, D);
          place(z, problem.z, D);
          place(b, problem.b, N);
          place(c, problem.c, N);
          ASSERT_TRUE(SelectiveScanStep(*stream, {.params = problem.Params(),
                                                  .in = {.x = x.data(),
                                                         .x_stride = D,
                                                         .delta_raw = delta.data(),
                                                         .delta_stride = D,
                                                         .z = z.data(),
                                                         .z_stride = D,
                                                         .b = b.data(),
                                                         .c = c.data(),
                                                         .bc_stride = N},
                                                  .y = y.data(),
                                                  .y_stride = D,
                                                  .rows = rows,
                                                  .slot_index = slots.data(),
                                                  .state = pool.View()})
                          .ok());
          ASSERT_EQ(std::memcmp(&y[at * D], &whole.y[t * D], D * sizeof(float)), 0)
              << "D " << D << " rows " << rows;
          for (std::int64_t r = 0; r < rows; ++r) {
            if (slots[r] == kNoSlot) {
              ASSERT_EQ(y[r * D], kPoison);
            }
          }
        }
        ASSERT_EQ(pool.Get(10), whole.state);
        ASSERT_TRUE(pool.RestIsUntouched({slots.begin(), slots.end()}));
      }
    }
  }
}

// A step on a bf16 state: y and the state before rounding are the bits of a step on the widened one, in any
// row, slot and batch.
TEST_P(SelectiveScanTest, ANarrowStepIsAStepThenARounding) {
  constexpr std::int32_t kSlots = 8;
  for (const std::int64_t D : {5, 16, 130}) {
    for (const std::int64_t N : {3, 8, 16}) {
      const Problem p(D, N, 1);
      const std::int64_t stride = (sizeof(RoundingKey) + N * D * 2 + 7) / 8 * 8;
      for (const std::int32_t rows : {1, 4, 7}) {
        std::vector<std::byte> memory(kSlots * stride);
        const SlotView narrow = {.base = memory.data(),
                                 .slot_stride_bytes = stride,
                                 .layer_offset_bytes = sizeof(RoundingKey),
                                 .slots = kSlots,
                                 .layer = 3,
                                 .dtype = DType::kBf16};
        SlotPool wide(kSlots, N * D);
        std::vector<std::int32_t> slots;
        for (std::int32_t row = 0; row < rows; ++row) slots.push_back((row * 3 + rows) % kSlots);
        if (rows > 1) slots[1] = kNoSlot;
        for (std::int32_t slot = 0; slot < kSlots; ++slot) {
          std::vector<float> values = RandomFloats(N * D, 40 + slot);
          for (std::int64_t i = 0; i < N * D; ++i) {
            narrow.Bf16At(slot)[i] = FloatToBf16(values[i]);
            values[i] = RoundToBf16(values[i]);
          }
          wide.Set(slot, values);
          narrow.KeyAt(slot) = {.seed = 5u, .position = static_cast<std::uint64_t>(slot)};
        }
        std::vector<std::byte> want = memory;
        std::vector<float> x, delta, z, b, c;
        for (std::int32_t row = 0; row < rows; ++row) {
          x.insert(x.end(), p.x.begin(), p.x.end());
          delta.insert(delta.end(), p.delta_raw.begin(), p.delta_raw.end());
          z.insert(z.end(), p.z.begin(), p.z.end());
          b.insert(b.end(), p.b.begin(), p.b.end());
          c.insert(c.end(), p.c.begin(), p.c.end());
        }
        std::vector<float> y(rows * D, kPoison), y_wide = y;
        SelectiveScanStepArgs args = {.params = p.Params(),
                                      .in = {.x = x.data(),
                                             .x_stride = D,
                                             .delta_raw = delta.data(),
                                             .delta_stride = D,
                                             .z = z.data(),
                                             .z_stride = D,
                                             .b = b.data(),
                                             .c = c.data(),
                                             .bc_stride = N},
                                      .y = y.data(),
                                      .y_stride = D,
                                      .rows = rows,
                                      .slot_index = slots.data(),
                                      .state = narrow};
        ASSERT_TRUE(SelectiveScanStep(*stream_, args).ok());
        args.y = y_wide.data();
        args.state = wide.View();
        ASSERT_TRUE(SelectiveScanStep(*stream_, args).ok());
        ASSERT_EQ(y, y_wide) << D << " x " << N << ", rows " << rows;
        for (const std::int32_t slot : slots) {
          if (slot == kNoSlot) continue;
          const std::vector<float> stepped = wide.Get(slot);
          auto* const to =
              reinterpret_cast<std::uint16_t*>(want.data() + slot * stride + sizeof(RoundingKey));
          for (std::int64_t i = 0; i < N * D; ++i) {
            to[i] = RoundStateElement({.seed = 5u, .position = static_cast<std::uint64_t>(slot) + 1}, 3,
                                      static_cast<std::uint32_t>(i % D), static_cast<std::uint32_t>(i / D),
                                      stepped[i]);
          }
        }
        ASSERT_EQ(std::memcmp(memory.data(), want.data(), want.size()), 0) << D << " x " << N;
      }
    }
  }
}

TEST_P(SelectiveScanTest, TheOutputMayReplaceAnyInputOfItsShape) {
  const Problem problem(37, 16, 50);
  const Result want = RunChunks(*stream_, problem, {});
  const std::int64_t offsets[] = {0, 50};
  const std::int32_t slot = 0;
  for (int which = 0; which < 3; ++which) {
    Problem changed = problem;
    std::vector<float>& y = which == 0 ? changed.x : which == 1 ? changed.z : changed.delta_raw;
    SlotPool pool(1, 16 * 37);
    pool.Set(0, problem.InitialState());
    ASSERT_TRUE(SelectiveScanPrefill(*stream_, {.params = changed.Params(),
                                                .in = changed.Inputs(),
                                                .y = y.data(),
                                                .y_stride = 37,
                                                .chunks = 1,
                                                .offsets = offsets,
                                                .slot_index = &slot,
                                                .state = pool.View()})
                    .ok());
    EXPECT_EQ(y, want.y) << which;
  }
}

TEST_P(SelectiveScanTest, AStateForgetsUnderAnyDecay) {
  Problem problem(16, 4, 40);
  for (float& value : problem.delta_raw) value = 1e30f;
  for (float& value : problem.x) value = 0.0f;
  const Result result = RunChunks(*stream_, problem, {});
  for (const float value : result.state) EXPECT_LE(std::fabs(value), 1e-30f);
  for (const float value : result.y) EXPECT_LE(std::fabs(value), 1e-30f);
}

TEST_P(SelectiveScanTest, RefusesWhatItCannotCompute) {
  const Problem problem(4, 3, 2);
  SlotPool pool(2, 12);
  std::vector<float> y(8, kPoison);
  const std::vector<std::int32_t> slots = {0, 1}, beyond = {0, 2};
  const SelectiveScanStepArgs good = {.params = problem.Params(),
                                      .in = problem.Inputs(),
                                      .y = y.data(),
                                      .y_stride = 4,
                                      .rows = 2,
                                      .slot_index = slots.data(),
                                      .state = pool.View()};
  const auto refused = [&](auto change) {
    SelectiveScanStepArgs args = good;
    change(args);
    return SelectiveScanStep(*stream_, args).code() == absl::StatusCode::kInvalidArgument;
  };
  using Args = SelectiveScanStepArgs;
  EXPECT_TRUE(refused([](Args& a) { a.params.channels = 0; }));
  EXPECT_TRUE(refused([](Args& a) { a.params.state_size = 0; }));
  EXPECT_TRUE(refused([](Args& a) { a.params.state_size = kMaxStateSize + 1; }));
  EXPECT_TRUE(refused([](Args& a) { a.params.decay_log2 = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.in.b = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.in.z_stride = 3; }));
  EXPECT_TRUE(refused([](Args& a) { a.in.bc_stride = 2; }));
  EXPECT_TRUE(refused([](Args& a) { a.y = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.rows = -1; }));
  EXPECT_TRUE(refused([&](Args& a) { a.slot_index = beyond.data(); }));
  EXPECT_TRUE(refused([](Args& a) { a.slot_index = nullptr; }));
  EXPECT_TRUE(refused([](Args& a) { a.state.dtype = DType::kF16; }));
  EXPECT_EQ(y, std::vector<float>(8, kPoison));
  EXPECT_TRUE(pool.RestIsUntouched({}));
}

INSTANTIATE_TEST_SUITE_P(Paths, SelectiveScanTest, ::testing::ValuesIn(PathsToTest()),
                         [](const auto& info) { return std::string(Name(info.param)); });

}  // namespace
}  // namespace mambad::kernels
