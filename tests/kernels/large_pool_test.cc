// A pool of more than 2^33 bytes: its last slots give the bits that a small pool gives, by the general ops
// and by the fused layer.
#include <bit>
#include <cstring>
#include <functional>
#include <memory>
#include <random>
#include <vector>

#include "gtest/gtest.h"
#include "kernels/causal_conv1d/causal_conv1d.h"
#include "kernels/mamba_layer/mamba_layer.h"
#include "kernels/row_copy/row_copy.h"
#include "kernels/selective_scan/selective_scan.h"
#include "tests/support/gpu_layer.h"
#include "tests/support/test_device.h"

namespace mambad::kernels {
namespace {

constexpr std::int32_t kLargeSlots = 420;
constexpr std::int64_t kLargeStride = (std::int64_t{24} << 20) + 16;
// Of the large pool: three beyond 2^33 bytes and one near its beginning.
const std::vector<std::int32_t> kUsed = {kLargeSlots - 1, 3, kLargeSlots - 2, 400};
static_assert(400 * kLargeStride > std::int64_t{1} << 33);

constexpr std::int64_t kChannels = 128, kStates = 16, kTaps = 4;
constexpr std::int64_t kRows = 4;  // one a slot
constexpr std::int64_t kTokens = 40;

// Where an op finds its slots: window and state of one layer, and which slots.
struct Slots {
  SlotView window;
  SlotView state;
  const std::int32_t* index;
};

class LargePoolTest : public testing::Test {
 protected:
  void SetUp() override {
    if (!TestsRunOnGpu()) GTEST_SKIP() << "needs a GPU's memory: set MAMBAD_TEST_DEVICE=cuda";
    device_ = Device::Create({.kind = DeviceKind::kCuda, .threads = 2}).value();
    stream_ = Stream::Create(*device_).value();
    absl::StatusOr<DeviceBuffer> large = device_->Allocate(kLargeSlots * kLargeStride, "test");
    if (!large.ok()) GTEST_SKIP() << large.status();
    large_ = *std::move(large);
  }

  // The same op in a small pool and in the last slots of the large one, from equal slots and equal `output`:
  // equal bits in both.
  void ExpectSameBits(std::int64_t window_floats, std::int64_t state_floats, const std::vector<float>& output,
                      const std::function<absl::Status(const Slots&, float* output)>& op) {
    const std::int64_t floats = window_floats + state_floats;
    std::vector<float> start = NormalFloats(random_, kRows * floats, 0, 0.5f);
    for (std::int64_t i = 0; i < kRows * floats; ++i) {
      if (i % floats < window_floats) start[i] = WithEqualHalves(start[i]);
    }
    const DeviceBuffer small = Upload(*stream_, start);
    const DeviceBuffer small_out = Upload(*stream_, output), large_out = Upload(*stream_, output);
    const DeviceBuffer small_index = Upload(*stream_, std::vector<std::int32_t>{0, 1, 2, 3});
    const DeviceBuffer large_index = Upload(*stream_, kUsed);
    // The layer lies at the end of a slot.
    const std::int64_t offset = kLargeStride - floats * 4;
    const auto large_slot = [&](std::int64_t row) {
      return large_.as<std::byte>() + kUsed[row] * kLargeStride + offset;
    };
    for (std::int64_t row = 0; row < kRows; ++row) {
      ASSERT_TRUE(CopyToDevice(*stream_, large_slot(row), start.data() + row * floats, floats * 4).ok());
    }
    const auto slots_at = [&](const DeviceBuffer& pool, std::int64_t stride, std::int64_t at,
                              std::int32_t slots, const DeviceBuffer& index) {
      const SlotView window = {pool.as<std::byte>(), stride, at, slots};
      const SlotView state = {pool.as<std::byte>(), stride, at + window_floats * 4, slots};
      return Slots{window, state, index.as<std::int32_t>()};
    };
    const absl::Status in_small =
        op(slots_at(small, floats * 4, 0, kRows, small_index), small_out.as<float>());
    ASSERT_TRUE(in_small.ok()) << in_small;
    const absl::Status in_large =
        op(slots_at(large_, kLargeStride, offset, kLargeSlots, large_index), large_out.as<float>());
    ASSERT_TRUE(in_large.ok()) << in_large;
    const std::vector<float> want = Download(*stream_, small.as<float>(), start.size());
    EXPECT_NE(std::memcmp(want.data(), start.data(), start.size() * 4), 0) << "the op did nothing";
    for (std::int64_t row = 0; row < kRows; ++row) {
      const auto got = Download(*stream_, reinterpret_cast<const float*>(large_slot(row)), floats);
      EXPECT_EQ(std::memcmp(got.data(), want.data() + row * floats, floats * 4), 0) << "slot " << kUsed[row];
    }
    const auto want_out = Download(*stream_, small_out.as<float>(), output.size());
    const auto got_out = Download(*stream_, large_out.as<float>(), output.size());
    EXPECT_EQ(std::memcmp(got_out.data(), want_out.data(), output.size() * 4), 0) << "output";
  }

  // A float, and two bf16 of about its size.
  static float WithEqualHalves(float value) {
    const std::uint32_t high = std::bit_cast<std::uint32_t>(value) & 0xffff0000u;
    return std::bit_cast<float>(high | high >> 16);
  }

  DeviceBuffer Normal(std::int64_t count, float mean = 0, float deviation = 1) {
    return Upload(*stream_, NormalFloats(random_, count, mean, deviation));
  }
  DeviceBuffer Offsets() { return Upload(*stream_, std::vector<std::int64_t>{0, 7, 8, 30, kTokens}); }

  std::mt19937 random_{20261126};
  std::unique_ptr<Device> device_;
  std::unique_ptr<Stream> stream_;
  DeviceBuffer large_;
};

TEST_F(LargePoolTest, CausalConv1dGivesTheBitsOfASmallOne) {
  const DeviceBuffer x = Normal(kTokens * kChannels), weight = Normal(kTaps * kChannels), offsets = Offsets();
  const CausalConv1dFilter filter = {
      .weight = weight.as<float>(), .channels = kChannels, .width = static_cast<std::int32_t>(kTaps)};
  const std::int64_t floats = (kTaps - 1) * kChannels;
  ExpectSameBits(floats, 0, std::vector<float>(kRows * kChannels), [&](const Slots& slots, float* y) {
    return CausalConv1dStep(*stream_, {.filter = filter,
                                       .x = x.as<float>(),
                                       .x_stride = kChannels,
                                       .y = y,
                                       .y_stride = kChannels,
                                       .rows = kRows,
                                       .slot_index = slots.index,
                                       .window = slots.window});
  });
  ExpectSameBits(floats, 0, std::vector<float>(kTokens * kChannels), [&](const Slots& slots, float* y) {
    return CausalConv1dPrefill(*stream_, {.filter = filter,
                                          .x = x.as<float>(),
                                          .x_stride = kChannels,
                                          .y = y,
                                          .y_stride = kChannels,
                                          .chunks = kRows,
                                          .offsets = offsets.as<std::int64_t>(),
                                          .slot_index = slots.index,
                                          .window = slots.window});
  });
}

TEST_F(LargePoolTest, SelectiveScanGivesTheBitsOfASmallOne) {
  const DeviceBuffer x = Normal(kTokens * kChannels), delta = Normal(kTokens * kChannels),
                     bc = Normal(kTokens * 2 * kStates), decay = Normal(kStates * kChannels, -2, 0.3f),
                     skip = Normal(kChannels), offsets = Offsets();
  const SelectiveScanParams params = {.decay_log2 = decay.as<float>(),
                                      .skip = skip.as<float>(),
                                      .channels = kChannels,
                                      .state_size = kStates};
  const SelectiveScanInputs in = {.x = x.as<float>(),
                                  .x_stride = kChannels,
                                  .delta_raw = delta.as<float>(),
                                  .delta_stride = kChannels,
                                  .z = delta.as<float>(),
                                  .z_stride = kChannels,
                                  .b = bc.as<float>(),
                                  .c = bc.as<float>() + kStates,
                                  .bc_stride = 2 * kStates};
  const std::int64_t floats = kStates * kChannels;
  ExpectSameBits(0, floats, std::vector<float>(kRows * kChannels), [&](const Slots& slots, float* y) {
    return SelectiveScanStep(*stream_, {.params = params,
                                        .in = in,
                                        .y = y,
                                        .y_stride = kChannels,
                                        .rows = kRows,
                                        .slot_index = slots.index,
                                        .state = slots.state});
  });
  ExpectSameBits(0, floats, std::vector<float>(kTokens * kChannels), [&](const Slots& slots, float* y) {
    return SelectiveScanPrefill(*stream_, {.params = params,
                                           .in = in,
                                           .y = y,
                                           .y_stride = kChannels,
                                           .chunks = kRows,
                                           .offsets = offsets.as<std::int64_t>(),
                                           .slot_index = slots.index,
                                           .state = slots.state});
  });
}

TEST_F(LargePoolTest, CopyRowsGivesTheBitsOfASmallOne) {
  const std::int64_t width = 130;
  const DeviceBuffer from = Normal(kRows * width);
  const auto rows_of = [](const SlotView& view) {
    return RowTable{view.base + view.layer_offset_bytes, view.slot_stride_bytes};
  };
  ExpectSameBits(0, width, std::vector<float>(kRows * width), [&](const Slots& slots, float* out) {
    const RowTable pool = rows_of(slots.state);
    // Out of the pool, then into it.
    const absl::Status read = CopyRows(*stream_, {.from = pool,
                                                  .from_index = slots.index,
                                                  .to = {reinterpret_cast<std::byte*>(out), width * 4},
                                                  .rows = kRows,
                                                  .width = width});
    if (!read.ok()) return read;
    return CopyRows(*stream_, {.from = {from.as<std::byte>(), width * 4},
                               .to = pool,
                               .to_index = slots.index,
                               .rows = kRows,
                               .width = width});
  });
}

TEST_F(LargePoolTest, TheFusedLayerGivesTheBitsOfASmallOne) {
  const MambaLayerShape shape = {128, 256, 16, 4, 8};
  if (const std::string_view why_not = WhyNotFused(*device_, shape); !why_not.empty())
    GTEST_SKIP() << why_not;
  const GpuLayer layer(*stream_, shape, true, random_);
  const std::int64_t window_floats = layer.window_elements() / 2;
  const auto window_of = [](const Slots& slots) {
    SlotView window = slots.window;
    window.dtype = DType::kBf16;
    return window;
  };
  const StepWidths widths = {shape.d_model, shape.d_inner, shape.dt_bc_width()};
  const std::vector<float> table = NormalBf16(random_, kRows * shape.d_model, 1);
  const PackedLinear head = PackLinear(*device_, {.data = table.data(), .rows = kRows, .cols = shape.d_model},
                                       WeightPrecision::kBf16)
                                .value();
  const Embedding embedding = Embedding::Tied(head);
  const DeviceBuffer ids = Upload(*stream_, std::vector<std::uint32_t>{2, 0, 1, 3});
  const DeviceBuffer memory = device_->Allocate(StepBufferBytes(kRows, widths), "test").value();
  const StepBuffers buffers = BindStepBuffers(memory.as<std::byte>(), kRows, widths);
  ExpectSameBits(
      window_floats, layer.state_elements(), std::vector<float>(kRows * shape.d_model),
      [&](const Slots& slots, float* out) {
        absl::Status status = EmbedStep(*stream_, embedding,
                                        {.tokens = ids.as<std::uint32_t>(),
                                         .rows = kRows,
                                         .norm_weight = layer.norm_weight(),
                                         .buffers = buffers});
        status.Update(MambaLayerStep(*stream_, {.shape = shape,
                                                .weights = layer.weights(),
                                                .buffers = buffers,
                                                .rows = kRows,
                                                .slot_index = slots.index,
                                                .window = window_of(slots),
                                                .state = slots.state,
                                                .next_norm_weight = layer.norm_weight()}));
        status.Update(CopyOnDevice(*stream_, out, buffers.residual, kRows * shape.d_model * sizeof(float)));
        return status;
      });
  const DeviceBuffer offsets = Offsets();
  const DeviceBuffer workspace =
      device_->Allocate(MambaLayerPromptBytes(shape, kTokens, kRows), "test").value();
  ExpectSameBits(window_floats, layer.state_elements(), NormalFloats(random_, kTokens * shape.d_model, 0, 1),
                 [&](const Slots& slots, float* residual) {
                   const PromptChunks prompt = {.tokens = kTokens,
                                                .chunks = kRows,
                                                .offsets = offsets.as<std::int64_t>(),
                                                .slot_index = slots.index};
                   absl::Status status = PlacePromptTokens(*stream_, prompt, workspace.data());
                   status.Update(MambaLayerPrompt(*stream_, {.shape = shape,
                                                             .weights = layer.weights(),
                                                             .norm_weight = layer.norm_weight(),
                                                             .prompt = prompt,
                                                             .residual = residual,
                                                             .window = window_of(slots),
                                                             .state = slots.state,
                                                             .workspace = workspace.data()}));
                   return status;
                 });
}

}  // namespace
}  // namespace mambad::kernels
