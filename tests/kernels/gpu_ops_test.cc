// The general CUDA kernels compute the formulas of kernels/math in the order of the CPU's, so they give the
// bits of the AVX2 path, which fuses as a GPU does. Everything that an op may write is compared, beside a
// poisoned pool.
#include <cstring>
#include <numeric>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/causal_conv1d/causal_conv1d.h"
#include "kernels/embedding/embedding.h"
#include "kernels/linear/linear.h"
#include "kernels/rms_norm/rms_norm.h"
#include "kernels/row_copy/row_copy.h"
#include "kernels/selective_scan/selective_scan.h"
#include "tests/support/cpu_device.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

using Floats = TestVector<float>;

constexpr float kPoison = -4096.5f;
constexpr std::int32_t kSlots = 9;

class GpuOpsTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!TestsRunOnGpu()) GTEST_SKIP() << "compares a GPU with the CPU: set MAMBAD_TEST_DEVICE=cuda";
    if (!Supported(CpuPath::kAvx2)) GTEST_SKIP() << "this machine has no AVX2 to compare with";
    cpu_device_ = DeviceOn(CpuPath::kAvx2, 4);
    gpu_device_ = Device::Create({.kind = DeviceKind::kCuda, .threads = 4}).value();
    cpu_ = Stream::Create(*cpu_device_).value();
    gpu_ = Stream::Create(*gpu_device_).value();
  }

  Floats Random(std::size_t count, float scale = 1.0f) {
    std::normal_distribution<float> normal(0.0f, scale);
    Floats values(count);
    for (float& value : values) value = normal(random_);
    return values;
  }
  std::int64_t Between(std::int64_t low, std::int64_t high) { return low + random_() % (high - low + 1); }

  // The same call on both devices; `written` starts equal and must end equal.
  template <class Op>
  void Compare(const Op& op, const std::vector<Floats*>& written) {
    std::vector<Floats> before, by_cpu;
    for (const Floats* values : written) before.push_back(*values);
    ASSERT_TRUE(op(*cpu_).ok());
    for (const Floats* values : written) by_cpu.push_back(*values);
    for (std::size_t i = 0; i < written.size(); ++i) *written[i] = before[i];
    ASSERT_TRUE(op(*gpu_).ok());
    ASSERT_TRUE(gpu_->Synchronize().ok());
    for (std::size_t i = 0; i < written.size(); ++i) {
      for (std::size_t at = 0; at < by_cpu[i].size(); ++at) {
        ASSERT_EQ(std::memcmp(&by_cpu[i][at], &(*written[i])[at], sizeof(float)), 0)
            << "array " << i << ", element " << at << ": " << by_cpu[i][at] << " and " << (*written[i])[at];
      }
    }
  }

  // `count` slots, distinct, one of them sometimes kNoSlot.
  TestVector<std::int32_t> Slots(std::int64_t count) {
    std::vector<std::int32_t> all(kSlots);
    std::iota(all.begin(), all.end(), 0);
    std::shuffle(all.begin(), all.end(), random_);
    TestVector<std::int32_t> slots(all.begin(), all.begin() + count);
    if (random_() % 2 == 0) slots[random_() % count] = kNoSlot;
    return slots;
  }

  SlotView View(Floats& pool, std::int64_t floats) const {
    return {reinterpret_cast<std::byte*>(pool.data()), (floats + 5) * std::int64_t{sizeof(float)},
            3 * std::int64_t{sizeof(float)}, kSlots};
  }
  Floats Pool(std::int64_t floats) { return Random(kSlots * (floats + 5)); }

  TestVector<std::int64_t> Offsets(std::int64_t chunks) {
    TestVector<std::int64_t> offsets = {0};
    for (std::int64_t i = 0; i < chunks; ++i) offsets.push_back(offsets.back() + Between(0, 21));
    return offsets;
  }

  std::mt19937 random_{20261126};
  std::unique_ptr<Device> cpu_device_, gpu_device_;
  std::unique_ptr<Stream> cpu_, gpu_;
};

TEST_F(GpuOpsTest, RmsNorm) {
  for (int trial = 0; trial < 20; ++trial) {
    const std::int64_t rows = Between(1, 40), width = Between(1, 700), stride = width + Between(0, 3);
    const Floats x = Random(rows * stride), weight = Random(width);
    Floats y(rows * stride, kPoison);
    Compare(
        [&](Stream& stream) {
          return RmsNorm(stream, {.x = x.data(),
                                  .x_stride = stride,
                                  .weight = trial % 3 == 0 ? nullptr : weight.data(),
                                  .y = y.data(),
                                  .y_stride = stride,
                                  .rows = rows,
                                  .width = width});
        },
        {&y});
  }
}

TEST_F(GpuOpsTest, Linear) {
  for (const WeightPrecision precision : {WeightPrecision::kF32, WeightPrecision::kBf16}) {
    for (int trial = 0; trial < 20; ++trial) {
      const std::int64_t M = Between(1, 300), K = Between(1, 300), rows = Between(1, 70);
      const Floats weight = Random(M * K), bias = Random(M), x = Random(rows * (K + 2));
      const LinearWeight source = {weight.data(), DType::kF32, M, K, trial % 2 == 0 ? bias.data() : nullptr};
      const PackedLinear on_cpu = PackLinear(*cpu_device_, source, precision).value();
      const PackedLinear on_gpu = PackLinear(*gpu_device_, source, precision).value();
      Floats y = Random(rows * (M + 1));
      Compare(
          [&](Stream& stream) {
            return Linear(stream, stream.on_gpu() ? on_gpu : on_cpu,
                          {.x = x.data(),
                           .ldx = K + 2,
                           .y = y.data(),
                           .ldy = M + 1,
                           .rows = rows,
                           .accumulate = trial % 4 < 2});
          },
          {&y});
    }
  }
}

TEST_F(GpuOpsTest, Embedding) {
  for (const WeightPrecision precision : {WeightPrecision::kF32, WeightPrecision::kBf16}) {
    for (const bool tied : {false, true}) {
      const std::int64_t V = 501, M = 77, rows = 13;
      const Floats table = Random(V * M);
      const LinearWeight source = {table.data(), DType::kF32, V, M, nullptr};
      TestVector<std::uint32_t> ids(rows);
      for (std::uint32_t& id : ids) id = random_() % V;
      const PackedLinear cpu_head = PackLinear(*cpu_device_, source, precision).value();
      const PackedLinear gpu_head = PackLinear(*gpu_device_, source, precision).value();
      const Embedding on_cpu =
          tied ? Embedding::Tied(cpu_head) : Embedding::Create(*cpu_device_, source, precision).value();
      const Embedding on_gpu =
          tied ? Embedding::Tied(gpu_head) : Embedding::Create(*gpu_device_, source, precision).value();
      Floats out(rows * (M + 3), kPoison);
      Compare(
          [&](Stream& stream) {
            return EmbeddingLookup(stream, stream.on_gpu() ? on_gpu : on_cpu,
                                   {.ids = ids.data(), .out = out.data(), .ldo = M + 3, .rows = rows});
          },
          {&out});
    }
  }
}

TEST_F(GpuOpsTest, CausalConv1d) {
  for (int trial = 0; trial < 24; ++trial) {
    const std::int64_t D = Between(1, 300), width = 1 + trial % 6, stride = D + Between(0, 3);
    const std::int64_t count = Between(1, kSlots);
    const Floats weight = Random(width * D), bias = Random(D);
    const auto slots = Slots(count);
    const auto offsets = Offsets(count);
    const CausalConv1dFilter filter = {.weight = weight.data(),
                                       .bias = trial % 3 == 0 ? nullptr : bias.data(),
                                       .channels = D,
                                       .width = static_cast<std::int32_t>(width),
                                       .round_input_to_bf16 = trial % 2 == 0};
    Floats pool = Pool((width - 1) * D);
    const std::int64_t rows = std::max(count, offsets.back());
    const Floats x = Random(rows * stride);
    Floats y(rows * stride, kPoison);
    Compare(
        [&](Stream& stream) {
          return CausalConv1dPrefill(stream, {.filter = filter,
                                              .x = x.data(),
                                              .x_stride = stride,
                                              .y = y.data(),
                                              .y_stride = stride,
                                              .chunks = count,
                                              .offsets = offsets.data(),
                                              .slot_index = slots.data(),
                                              .window = View(pool, (width - 1) * D)});
        },
        {&y, &pool});
    Compare(
        [&](Stream& stream) {
          return CausalConv1dStep(stream, {.filter = filter,
                                           .x = x.data(),
                                           .x_stride = stride,
                                           .y = y.data(),
                                           .y_stride = stride,
                                           .rows = count,
                                           .slot_index = slots.data(),
                                           .window = View(pool, (width - 1) * D)});
        },
        {&y, &pool});
  }
}

TEST_F(GpuOpsTest, SelectiveScan) {
  for (int trial = 0; trial < 24; ++trial) {
    const std::int64_t D = Between(1, 300), N = trial % 2 == 0 ? 16 : Between(1, 40),
                       stride = D + Between(0, 3);
    const std::int64_t count = Between(1, kSlots);
    const auto slots = Slots(count);
    const auto offsets = Offsets(count);
    const std::int64_t rows = std::max(count, offsets.back());
    Floats decay = Random(N * D);
    for (float& value : decay) value = -std::exp(value);
    const Floats bias = Random(D), skip = Random(D), bc = Random(rows * 2 * N);
    const Floats x = Random(rows * stride), delta = Random(rows * stride, 2.0f),
                 z = Random(rows * stride, 3.0f);
    const SelectiveScanParams params = {.decay_log2 = decay.data(),
                                        .delta_bias = trial % 3 == 0 ? nullptr : bias.data(),
                                        .skip = skip.data(),
                                        .channels = D,
                                        .state_size = N};
    const SelectiveScanInputs in = {.x = x.data(),
                                    .x_stride = stride,
                                    .delta_raw = delta.data(),
                                    .delta_stride = stride,
                                    .z = z.data(),
                                    .z_stride = stride,
                                    .b = bc.data(),
                                    .c = bc.data() + N,
                                    .bc_stride = 2 * N};
    Floats pool = Pool(N * D);
    Floats y(rows * stride, kPoison);
    Compare(
        [&](Stream& stream) {
          return SelectiveScanPrefill(stream, {.params = params,
                                               .in = in,
                                               .y = y.data(),
                                               .y_stride = stride,
                                               .chunks = count,
                                               .offsets = offsets.data(),
                                               .slot_index = slots.data(),
                                               .state = View(pool, N * D)});
        },
        {&y, &pool});
    Compare(
        [&](Stream& stream) {
          return SelectiveScanStep(stream, {.params = params,
                                            .in = in,
                                            .y = y.data(),
                                            .y_stride = stride,
                                            .rows = count,
                                            .slot_index = slots.data(),
                                            .state = View(pool, N * D)});
        },
        {&y, &pool});
  }
}

TEST_F(GpuOpsTest, SelectiveScanOnANarrowState) {
  for (int trial = 0; trial < 16; ++trial) {
    const std::int64_t D = Between(1, 300), N = trial % 2 == 0 ? 16 : Between(1, 40);
    const std::int64_t rows = Between(1, kSlots);
    const auto slots = Slots(rows);
    Floats decay = Random(N * D);
    for (float& value : decay) value = -std::exp(value);
    const Floats skip = Random(D), bc = Random(rows * 2 * N), x = Random(rows * D),
                 delta = Random(rows * D, 2.0f), z = Random(rows * D, 3.0f);
    const std::int64_t floats = 4 + (N * D + 3) / 4 * 2;  // a key, then halves
    // Random floats are keys too, and their halves are states; but not infinite ones.
    Floats pool = Random(kSlots * floats);
    for (float& value : pool) {
      const auto half = FloatToBf16(value);
      const std::uint32_t both = std::uint32_t{half} << 16 | half;
      std::memcpy(&value, &both, sizeof(value));
    }
    const SlotView state = {.base = reinterpret_cast<std::byte*>(pool.data()),
                            .slot_stride_bytes = floats * 4,
                            .layer_offset_bytes = sizeof(RoundingKey),
                            .slots = kSlots,
                            .layer = 11,
                            .dtype = DType::kBf16};
    Floats y(rows * D, kPoison);
    Compare(
        [&](Stream& stream) {
          return SelectiveScanStep(
              stream,
              {.params = {.decay_log2 = decay.data(), .skip = skip.data(), .channels = D, .state_size = N},
               .in = {.x = x.data(),
                      .x_stride = D,
                      .delta_raw = delta.data(),
                      .delta_stride = D,
                      .z = z.data(),
                      .z_stride = D,
                      .b = bc.data(),
                      .c = bc.data() + N,
                      .bc_stride = 2 * N},
               .y = y.data(),
               .y_stride = D,
               .rows = rows,
               .slot_index = slots.data(),
               .state = state});
        },
        {&y, &pool});
  }
}

TEST_F(GpuOpsTest, CopyRows) {
  const std::int64_t width = 130;
  Floats from = Random(20 * width), to(20 * width, kPoison);
  const TestVector<std::int32_t> from_index = {3, kNoSlot, 19, 3, 7}, to_index = {0, 5, 1, kNoSlot, 11};
  const std::int64_t stride = width * std::int64_t{sizeof(float)};
  Compare(
      [&](Stream& stream) {
        return CopyRows(stream, {.from = {reinterpret_cast<std::byte*>(from.data()), stride},
                                 .from_index = from_index.data(),
                                 .to = {reinterpret_cast<std::byte*>(to.data()), stride},
                                 .to_index = to_index.data(),
                                 .rows = 5,
                                 .width = width});
      },
      {&to});
}

}  // namespace
}  // namespace mambad::kernels
